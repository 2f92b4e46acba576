// How Chandlery is packaged, shown with what runs it: the image in a container, Prometheus
// beside it, systemd's own judgement of the unit. Started by run.sh; prints a sentence per check.
import { temporaryDirectory } from '../support/temporary-directory.ts'
import { checkImage } from './image.ts'
import { checkMonitoring } from './monitoring.ts'
import { print, Report } from './report.ts'
import { checkSystemdUnit } from './systemd-unit.ts'

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    print(`e2e: ended by ${signal}`)
    process.exit(1)
  })
}

const report = new Report()
// run.sh removes it: what is mounted there is ours as long as we run.
const directory = await temporaryDirectory('e2e')
await report.check('everything was tried', async () => {
  await checkSystemdUnit(report, `${directory.path}/unit`)
  await checkMonitoring(report, `${directory.path}/monitoring`)
  await checkImage(report, `${directory.path}/image`)
})
process.exitCode = report.finish() ? 0 : 1
