// Pulls through real proxies: tinyproxy (HTTP, CONNECT) and Dante (SOCKS 5) lead to a plain and
// a TLS registry, and their own logs say what went through them.
import { mkdir, writeFile } from 'node:fs/promises'
import { createAuthority } from '../support/certificates.ts'
import { startRegistry, type AddedImage, type TestRegistry } from '../support/registry.ts'
import { Chandlery } from './chandlery.ts'
import { canConnect, Daemon, freePort } from './processes.ts'
import { expectAll } from './pulls.ts'
import type { Report } from './report.ts'
import { skopeoPull } from './skopeo.ts'

interface EgressProxy {
  readonly name: string
  /** For `configs.<host>.proxy`. */
  readonly url: string
  readonly daemon: Daemon
  /** What its log says of a connection to this registry. */
  readonly mark: (registry: TestRegistry) => RegExp
}

interface Upstream {
  readonly name: string
  readonly registry: TestRegistry
  readonly image: AddedImage
}

/** Pulls from both registries without a proxy, through each, and with that one stopped. */
export async function checkEgress(report: Report, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  await using authority = await createAuthority()
  const { cert, key } = await authority.server('127.0.0.1')
  await using plain = await startRegistry()
  await using secure = await startRegistry({ tls: { cert, key } })
  const upstreams = [addImage('plain.test', plain), addImage('secure.test', secure)]
  await using stack = new AsyncDisposableStack()
  const proxies = [await startTinyproxy(directory, stack), await startDante(directory, stack)]
  const serve = async (name: string, proxy?: string) => {
    const config = configuration(upstreams, authority.ca.certFile, proxy)
    const options = { directory: `${directory}/${name}`, config }
    const chandlery = stack.use(await Chandlery.create(options))
    await chandlery.start()
    return chandlery
  }
  const scratch = `${directory}/pull`
  const direct = await serve('direct')
  await report.check('without a proxy nothing goes through one', async () => {
    for (const upstream of upstreams) await pull(direct, upstream, scratch)
    for (const { name, daemon, mark } of proxies) {
      const log = await daemon.log()
      if (upstreams.some(({ registry }) => mark(registry).test(log))) {
        throw new Error(`${name} was used:\n${log}`)
      }
    }
  })
  for (const proxy of proxies) {
    const chandlery = await serve(proxy.name, proxy.url)
    await checkProxy(report, { proxy, chandlery, upstreams, scratch })
  }
}

interface Run {
  readonly proxy: EgressProxy
  readonly chandlery: Chandlery
  readonly upstreams: readonly Upstream[]
  readonly scratch: string
}

async function checkProxy(report: Report, run: Run): Promise<void> {
  const { proxy, chandlery, upstreams, scratch } = run
  for (const upstream of upstreams) {
    await report.check(`skopeo pulls from ${upstream.name} through ${proxy.name}`, async () => {
      await pull(chandlery, upstream, scratch)
      const log = await proxy.daemon.log()
      if (!proxy.mark(upstream.registry).test(log)) throw new Error(`not in its log:\n${log}`)
    })
  }
  await report.check(`nothing goes past ${proxy.name} when it is stopped`, async () => {
    await proxy.daemon.stop()
    for (const { name, registry } of upstreams) {
      const { digest } = registry.addSyntheticBlob(1000, proxy.name, { repository: 'team/app' })
      const before = registry.requests.length
      const url = `${chandlery.url}/v2/${name}/team/app/blobs/${digest}`
      const response = await fetch(url, { signal: AbortSignal.timeout(30_000) })
      const body = await response.text()
      if (response.status < 500) throw new Error(`${response.status} ${body}`)
      if (registry.requests.length !== before) throw new Error(`${name} was asked directly`)
    }
  })
}

async function pull(chandlery: Chandlery, { name, image }: Upstream, directory: string) {
  const got = await skopeoPull(`${chandlery.host}/${name}/team/app:v1`, directory, false)
  expectAll(got, [image.digest, ...image.blobs.map(({ digest }) => digest)])
}

function addImage(name: string, registry: TestRegistry): Upstream {
  return { name, registry, image: registry.addImage('team/app', 'v1', { layers: 3, seed: name }) }
}

function configuration(upstreams: readonly Upstream[], ca: string, proxy: string | undefined) {
  const mirrors = upstreams.map(({ name, registry }) => [name, { endpoint: [registry.url] }])
  const host = { tls: { ca_file: ca }, ...(proxy === undefined ? {} : { proxy }) }
  const configs = upstreams.map(({ registry }) => [registry.host, host])
  return { mirrors: Object.fromEntries(mirrors), configs: Object.fromEntries(configs) }
}

async function startTinyproxy(directory: string, stack: AsyncDisposableStack) {
  const port = await freePort()
  const file = `${directory}/tinyproxy.conf`
  const lines = ['Listen 127.0.0.1', `Port ${port}`, 'Allow 127.0.0.1', 'Timeout 60']
  await writeFile(file, [...lines, 'LogLevel Connect', 'DisableViaHeader Yes', ''].join('\n'))
  const log = `${directory}/tinyproxy.log`
  const daemon = stack.use(new Daemon('tinyproxy', 'tinyproxy', ['-d', '-c', file], log))
  await daemon.until(() => canConnect(port))
  return { name: 'tinyproxy', url: `http://127.0.0.1:${port}`, daemon, mark: inTinyproxy }
}

function inTinyproxy({ host, url }: TestRegistry): RegExp {
  return new RegExp(url.startsWith('https:') ? `CONNECT ${host} ` : `GET ${url}/v2/`)
}

async function startDante(directory: string, stack: AsyncDisposableStack) {
  const port = await freePort()
  const file = `${directory}/danted.conf`
  await writeFile(file, danteConfiguration(port))
  const args = ['-f', file, '-p', `${directory}/danted.pid`]
  const daemon = stack.use(new Daemon('danted', 'danted', args, `${directory}/danted.log`))
  await daemon.until(() => canConnect(port))
  return { name: 'Dante', url: `socks5://127.0.0.1:${port}`, daemon, mark: inDante }
}

// Dante writes an address and its port with a dot between them.
function inDante({ port }: TestRegistry): RegExp {
  return new RegExp(`tcp/connect.* 127\\.0\\.0\\.1\\.${port}\\b`)
}

function danteConfiguration(port: number): string {
  const loopback = 'from: 127.0.0.0/8 to: 127.0.0.0/8'
  return `logoutput: stdout
internal: 127.0.0.1 port = ${port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { ${loopback} }
socks pass {
  ${loopback}
  command: connect
  log: connect error
}
`
}
