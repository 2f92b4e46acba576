// The scenario: real clients pull from a real registry through Chandlery, again without the registry,
// after a kill, and from a second server. Started by run.sh; prints a sentence per check.
import { rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import { Chandlery } from './chandlery.ts'
import { checkEgress } from './egress.ts'
import { checkMetrics, checkReadOnly, checkTokenRequests } from './faces.ts'
import { checkManyRanges } from './many-ranges.ts'
import { pullEverything } from './pulls.ts'
import { print, Report } from './report.ts'
import { checkResume } from './resume.ts'
import { checkKill, checkSecondServer } from './restarts.ts'
import { checkRolling } from './rolling.ts'
import { checkSmallDisk } from './small-disk.ts'
import { buildWorld } from './world.ts'

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    print(`e2e: ended by ${signal}`)
    process.exit(1)
  })
}

async function scenario(report: Report, directory: string): Promise<void> {
  await using stack = new AsyncDisposableStack()
  print('e2e: filling the registries')
  const world = await buildWorld(directory, stack)
  const serve = async (name: string) => {
    const options = { directory: `${directory}/chandlery-${name}`, config: world.config }
    const chandlery = stack.use(await Chandlery.create(options))
    await chandlery.start()
    return chandlery
  }
  const [skopeo, podman, containerd] = [
    await serve('skopeo'),
    await serve('podman'),
    await serve('containerd'),
  ]
  const chandleries = { skopeo, podman, containerd }
  const round = async (name: string, when: string) => {
    const clients = `${directory}/${name}`
    await mkdir(clients)
    await pullEverything({ report, world, chandleries, directory: clients, when })
  }
  const scratch = `${directory}/scratch`
  try {
    await round('first', 'from registries behind the token server')
    await checkTokenRequests(report, world)
    await world.stopUpstreams()
    await round('second', 'the registries and the token server being stopped')
    await checkMetrics(report, containerd)
    await checkReadOnly(report, skopeo, world, scratch)
    await checkManyRanges(report, skopeo, world)
    await checkKill(report, skopeo, world, scratch)
    await checkResume(report, skopeo, world, scratch)
    await checkEgress(report, `${directory}/egress`)
    await checkRolling(report, `${directory}/rolling`)
    await checkSmallDisk(report, `${directory}/small-disk`)
    await checkSecondServer(report, skopeo, world, directory)
  } finally {
    if (report.failed) {
      for (const [client, chandlery] of Object.entries(chandleries)) {
        print(`e2e: the last complaints of ${client}'s Chandlery:\n${await chandlery.complaints()}`)
      }
    }
  }
}

const report = new Report()
const directory = await temporaryDirectory('e2e')
// Also when a signal ends us; processes.ts has killed what ran by then, which may take a moment to die.
const remove = { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }
process.on('exit', () => rmSync(directory.path, remove))
await report.check('the scenario runs to its end', () => scenario(report, directory.path))
process.exitCode = report.finish() ? 0 : 1
