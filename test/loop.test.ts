// Two caches whose endpoints are each other (RFC 8586): nobody may wait for what never comes.
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { mirrorOf, type RunningChandlery, startChandlery } from './support/chandlery.ts'
import { startRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const REGISTRY = 'registry.test'
const DIGEST = `sha256:${'a'.repeat(64)}`
const SOON_MS = 3000

let directories: TemporaryDirectory[]
let relay: Relay
let outer: RunningChandlery
let inner: RunningChandlery

/** An address that is known before what listens behind it. */
interface Relay {
  readonly url: string
  to: number
  close(): void
}

async function startRelay(): Promise<Relay> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((from) => {
    const to = connect(relayed.to, '127.0.0.1')
    for (const socket of [from, to]) {
      sockets.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => [from, to].forEach((each) => each.destroy()))
    }
    from.pipe(to).pipe(from)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const relayed: Relay = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    to: 0,
    close: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
  return relayed
}

/** `more` are endpoints to ask after each other. */
async function startBoth(...more: string[]): Promise<void> {
  const start = ({ path }: TemporaryDirectory, other: string) => {
    const mirrors = mirrorOf(REGISTRY, other, ...more)
    return startChandlery(path, { ...mirrors, defaultRegistry: REGISTRY, shutdownTimeout: '1s' })
  }
  outer = await start(directories[0]!, relay.url)
  inner = await start(directories[1]!, outer.url)
  relay.to = Number(new URL(inner.url).port)
}

beforeEach(async () => {
  directories = [await temporaryDirectory(), await temporaryDirectory()]
  relay = await startRelay()
})

afterEach(async () => {
  await Promise.all([outer.stop(), inner.stop()])
  relay.close()
  await Promise.all(directories.map((directory) => directory.remove()))
})

interface Answered {
  readonly status: number
  readonly text: string
}

async function ask(base: string, path: string, method = 'GET'): Promise<Answered> {
  const signal = AbortSignal.timeout(SOON_MS)
  const response = await fetch(`${base}/v2/team/app/${path}`, { method, signal })
  return { status: response.status, text: await response.text() }
}

test.each([
  ['GET', 'manifests/latest'],
  ['HEAD', 'manifests/latest'],
  ['GET', `manifests/${DIGEST}`],
  ['GET', `blobs/${DIGEST}`],
  ['HEAD', `blobs/${DIGEST}`],
  ['GET', 'tags/list'],
  ['GET', `referrers/${DIGEST}`],
])(
  '%s of %s through caches that lead to each other is reported as a loop at once',
  async (...[method, path]) => {
    await startBoth()
    const { status, text } = await ask(outer.url, path, method)
    expect(status).toBe(508)
    if (method === 'GET') expect(JSON.parse(text).errors[0].message).toMatch(/loop.*mirrors/)
    expect(inner.log.filter(({ reason }) => reason === 'loop')).not.toEqual([])
  },
)

test('the endpoint after a loop serves what the loop does not have', async () => {
  await using registry = await startRegistry()
  const image = registry.addImage('team/app', 'latest')
  await startBoth(registry.url)
  expect((await ask(outer.url, 'manifests/latest')).text).toBe(image.bytes.toString())
  for (const { digest } of image.blobs) {
    expect((await ask(outer.url, `blobs/${digest}`)).status).toBe(200)
  }
})

test('clients of both at once do not make the caches wait for each other', async () => {
  await startBoth()
  const paths = ['manifests/latest', `manifests/${DIGEST}`, 'tags/list', `referrers/${DIGEST}`]
  const asked = [...paths, `blobs/${DIGEST}`].flatMap((path) => [
    ask(outer.url, path),
    ask(inner.url, path),
  ])
  const statuses = (await Promise.all(asked)).map(({ status }) => status)
  expect(new Set(statuses)).toEqual(new Set([508]))
})
