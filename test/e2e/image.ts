// The image is built, and serves when it is run read-only, without rights and within 256 MiB.
import { writeFile } from 'node:fs/promises'
import { Container } from './container.ts'
import { Containers } from './containers.ts'
import { buildImage } from './build-image.ts'
import { checkImageContent } from './image-content.ts'
import { DockerRegistry } from './docker-registry.ts'
import { freePort } from './processes.ts'
import { expectAll } from './pulls.ts'
import { pushImage, type PushedImage } from './push.ts'
import { print, type Report } from './report.ts'
import { skopeoPull } from './skopeo.ts'

const MIB = 1024 * 1024
const IMAGE = 'localhost/chandlery:e2e'
const MEMORY_MIB = 256
const CLIENTS = 4
const PLAN = {
  repository: 'team/app',
  type: 'oci',
  architectures: ['amd64'],
  layers: [100 * MIB, 20 * MIB, 1000],
} as const

/** Builds the image and runs it. */
export async function checkImage(report: Report, directory: string): Promise<void> {
  const containers = await Containers.create(`${directory}/pods`)
  const built = await report.check(
    'the Dockerfile builds, on stand-ins for its base images',
    async () => {
      await buildImage(containers, IMAGE, `${directory}/build`)
    },
  )
  if (!built) return
  await checkImageContent(report, containers, IMAGE)
  await using stack = new AsyncDisposableStack()
  const registry = stack.use(new DockerRegistry(`${directory}/registry`, await freePort()))
  await registry.start()
  const pushed = await pushImage(registry.url, PLAN, `${directory}/layers`)
  const configFile = `${directory}/chandlery.yaml`
  const mirrors = { 'hub.test': { endpoint: [registry.url] } }
  await writeFile(configFile, JSON.stringify({ defaultEndpoints: false, mirrors }))
  const run: Run = { containers, registry, pushed, configFile, directory }
  await checkServing(report, run)
  await checkOtherUser(report, run)
}

interface Run {
  readonly containers: Containers
  readonly registry: DockerRegistry
  readonly pushed: PushedImage
  readonly configFile: string
  readonly directory: string
}

async function checkServing(report: Report, run: Run): Promise<void> {
  const { containers, registry, configFile } = run
  const options = { name: 'chandlery-e2e', image: IMAGE, configFile, memory: `${MEMORY_MIB}m` }
  await using container = await Container.create(containers, options)
  await report.check('read-only, without rights and within 256 MiB, it starts', async () => {
    const first = await container.start()
    await container.stop()
    const second = await container.start()
    print(`        ready ${first.toFixed(0)} ms after podman start, then ${second.toFixed(0)} ms`)
    const rootOnly = await container.inspect('{{.HostConfig.ReadonlyRootfs}}')
    if (rootOnly !== 'true') throw new Error('its root file system is not read-only')
  })
  await report.check(`${CLIENTS} times skopeo pulls 120 MiB through it at once`, async () => {
    await Promise.all(Array.from({ length: CLIENTS }, (_, i) => pull(run, container, i)))
    print(`        ${(await container.peakMemory()).toFixed(0)} MiB at most`)
  })
  await report.check('and once more with the registry stopped', async () => {
    await registry.stop()
    await pull(run, container, 0)
    await registry.start()
  })
  await report.check('its health check finds it well', async () => {
    const { code, stdout, stderr } = await container.healthcheck()
    if (code !== 0) throw new Error(`podman ended with ${code}: ${stdout}${stderr}`)
  })
  await report.check('it was never short of memory, and ends with 0 on SIGTERM', async () => {
    const code = await container.stop()
    const killed = await container.inspect('{{.State.OOMKilled}}')
    if (code !== 0 || killed !== 'false') throw new Error(`exit code ${code}, killed: ${killed}`)
  })
}

// OpenShift runs images as a user it makes up, in group 0.
async function checkOtherUser(report: Report, run: Run): Promise<void> {
  const { containers, configFile } = run
  const options = { name: 'chandlery-e2e-user', image: IMAGE, configFile, memory: '256m' }
  const user = '1000710000:0'
  await report.check('it serves as another user of group 0', async () => {
    await using container = await Container.create(containers, { ...options, user })
    const took = await container.start()
    print(`        ready ${took.toFixed(0)} ms after podman start`)
    await pull(run, container, 0)
  })
}

async function pull({ pushed, directory }: Run, { host }: Container, client: number) {
  const name = `${host}/hub.test/${pushed.repository}:${pushed.tag}`
  const got = await skopeoPull(name, `${directory}/pull-${client}`, false)
  expectAll(
    got,
    pushed.amd64.map(({ digest }) => digest),
  )
}
