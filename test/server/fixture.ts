// A running app over caches that a test fills in, on a real loopback port.
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { OciError } from '../../src/oci/errors.ts'
import { type AppOptions, createApp } from '../../src/server/app.ts'
import type { Caches, Requester } from '../../src/cache/caches.ts'
import type { Content } from '../../src/cache/content.ts'
import type { RefusedConnection, RequestRecord } from '../../src/server/observer.ts'
import type { Routed } from '../../src/server/routing.ts'

export interface RunningApp {
  readonly app: FastifyInstance
  readonly port: number
  readonly url: string
  /** The finished requests, in order of their ends. */
  readonly records: RequestRecord[]
  readonly refused: RefusedConnection[]
  /** What was reported as Chandlery's own fault. */
  readonly faults: { operation: string; error: unknown; requestId: string }[]
  /** Requests begun minus requests finished. */
  readonly running: () => number
  stop(): Promise<void>
}

/** The app's options with the caches among them, each of which a test may give. */
export type TestOptions = Partial<Omit<AppOptions, 'caches'> & Caches>

const ANYBODY: Requester = {
  credentials: { credentialFor: async () => ({ kind: 'anonymous' }) },
}

const HIT = { state: 'hit' } as const

/** Routes everything to docker.io/<name as it stands>. */
export const plainRouter: AppOptions['registries'] = {
  route(target, { ns }): Routed {
    const name = 'name' in target ? target.name : undefined
    const prefix = target.prefix === undefined ? '' : `/${target.prefix}`
    const registry = ns ?? target.prefix ?? 'docker.io'
    return {
      registry,
      clientPrefix: prefix,
      named: ns !== undefined || target.prefix !== undefined,
      ...(ns !== undefined && { ns }),
      ...(name !== undefined && { repository: { registry, name }, clientName: name }),
    }
  },
}

export async function startApp(options: TestOptions = {}): Promise<RunningApp> {
  const records: RequestRecord[] = []
  const faults: RunningApp['faults'] = []
  const refused: RefusedConnection[] = []
  let running = 0
  const caches: Caches = {
    manifests: { get: unknown, head: unknown },
    blobs: { open: unknown, head: unknown },
    tags: { list: unknown },
    referrers: { list: unknown },
    catalog: { repositories: async () => [] },
    ...options,
  }
  const app = createApp({
    registries: plainRouter,
    caches: () => caches,
    requester: () => ANYBODY,
    observer: {
      requestStarted: () => (running += 1),
      requestFinished: (record) => {
        running -= 1
        records.push(record)
      },
      connectionRefused: (connection) => void refused.push(connection),
      unexpectedError: (operation, error, requestId) => {
        faults.push({ operation, error, requestId })
      },
    },
    instanceId: 'chandlery-test',
    clientStallTimeoutMs: 60_000,
    ...options,
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const url = `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`
  const stop = async () => {
    app.server.closeAllConnections()
    await app.close()
  }
  return { app, port, url, records, refused, faults, running: () => running, stop }
}

async function unknown(): Promise<never> {
  throw new OciError('MANIFEST_UNKNOWN')
}

/** Blobs that are what `open` makes of each request. */
export function blobsOf(open: () => Content): Caches['blobs'] {
  return {
    open: async () => ({ content: open(), cache: HIT }),
    head: async () => ({ size: open().size, cache: HIT }),
  }
}

/** What one connection gets for the texts it sends, a pause before each but the first, until it is closed. */
export function talkTo(port: number, ...texts: string[]): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => void speak(socket, texts))
    let answer = ''
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')))
    socket.on('error', () => {})
    socket.on('close', () => resolve(answer))
  })
}

async function speak(socket: Socket, texts: string[]): Promise<void> {
  for (const [index, text] of texts.entries()) {
    if (index > 0) await sleep(50)
    socket.write(text, 'latin1')
  }
}
