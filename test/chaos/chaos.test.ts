// Runs the whole server against random upstream faults, clients and restarts. Whatever happens, no
// client gets wrong content as complete, nothing unverified is kept, nothing is left behind, and
// upstreams send little more than is needed.
//
// CHAOS_MS is the duration; CHAOS_SEED is the seed that a failed run printed.
import { randomInt } from 'node:crypto'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Algorithm, Digest } from '../../src/oci/digest.ts'
import { expectVerified, filesBelow, openBelow } from '../support/cache-files.ts'
import { mirrorOf, type RunningChandlery, startChandlery } from '../support/chandlery.ts'
import { syntheticBytes } from '../support/content.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts'
import { type Account, costOf, type SetTrouble } from './account.ts'
import { ask, type Client, CLIENTS, readBy, type Subject } from './clients.ts'
import { HONEST, LIES } from './troubles.ts'

const KIB = 1024
const MIB = 1024 * KIB
const REGISTRY = 'registry.test'
const REPOSITORY = 'team/app'
const { CHAOS_MS = '5000', CHAOS_SEED } = process.env
const TIME_MS = Number(CHAOS_MS)
const SEED = CHAOS_SEED === undefined ? randomInt(-(2 ** 31), 2 ** 31) : Number(CHAOS_SEED)
const PIECE_BYTES = MIB
/** Upper bound for everything: a stalled upstream is cut after 200 ms here, at most five times. */
const PATIENCE_MS = 8000
const LIMITS = { connectTimeoutMs: 500, headersTimeoutMs: 200, bodyStallMs: 200 }

let directory: TemporaryDirectory
/** The endpoints, in order; the second one may lack the blob. */
let upstreams: [TestRegistry, TestRegistry]
let chandlery: RunningChandlery
let log: Record<string, unknown>[] = []
let runs = 0

beforeAll(async () => {
  directory = await temporaryDirectory()
  upstreams = [await startRegistry(), await startRegistry()]
  await start()
})

afterAll(async () => {
  await chandlery.stop()
  for (const upstream of upstreams) await upstream.close()
  await directory.remove()
})

async function start(): Promise<void> {
  const config = {
    ...mirrorOf(REGISTRY, ...upstreams.map(({ url }) => url)),
    freshness: { negativeTtl: '0s' },
    fetch: { piece: `${PIECE_BYTES / MIB}MiB` },
    shutdownTimeout: '50ms',
  }
  chandlery = await startChandlery(directory.path, config, { limits: LIMITS, retryDelayMs: 1 })
}

async function restart(): Promise<void> {
  await chandlery.stop()
  log = [...log, ...chandlery.log]
  await start()
}

// Offsets are fractions of the size, so that a scenario makes sense for every size.
const share = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom(0, 1) },
  { weight: 4, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
)
const trouble = fc.constantFrom(...Object.keys(HONEST), ...Object.keys(LIES))

const scenario = fc.record({
  size: fc.oneof(
    fc.constantFrom(0, 1, 64 * KIB, 64 * KIB + 1, MIB, MIB + 1, MIB + 64 * KIB),
    fc.integer({ min: 2, max: 4 * MIB }),
  ),
  algorithm: fc.constantFrom<Algorithm>('sha256', 'sha256', 'sha512'),
  /** Whether a manifest names the blob, so that its size is known. */
  named: fc.boolean(),
  /** Whether the second endpoint has the blob too. */
  twice: fc.boolean(),
  /** Whether the endpoints are so far away that several connections pay off. */
  far: fc.boolean(),
  /** Each affects one request to its endpoint, in this order. */
  troubles: fc.array(fc.tuple(trouble, share, fc.constantFrom(0, 0, 1)), { maxLength: 4 }),
  clients: fc.array(
    fc.record({
      kind: fc.constantFrom(...Object.keys(CLIENTS)),
      afterMs: fc.integer({ min: 0, max: 40 }),
      shares: fc.array(share, { minLength: 2, maxLength: 6 }),
    }),
    { minLength: 1, maxLength: 6 },
  ),
  /**
   * When to restart the server, in milliseconds. Rarely set, because a restart excuses any bytes.
   */
  restartMs: fc.oneof(
    { weight: 3, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 60 }) },
  ),
})

type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never

async function play({ size, troubles, clients, ...rest }: Scenario): Promise<void> {
  runs += 1
  // There is only one empty blob.
  for (const upstream of upstreams) upstream.requests.length = 0
  const bytes = syntheticBytes(`chaos ${runs}`, 0, size)
  const lied = troubles.some(([name]) => name in LIES)
  const subject = { digest: addBlob(rest, bytes), bytes, lied }
  if (rest.named) await inTime('the manifest', getManifest(`t${runs}`))
  const match = { method: 'GET', digest: subject.digest }
  const set = troubles.map(([name, at, which]): SetTrouble => {
    const fault = (HONEST[name] ?? LIES[name])!(size, at)
    return { name, active: upstreams[which].fault({ match, times: 1, ...fault }) }
  })
  if (rest.far) for (const upstream of upstreams) upstream.fault({ match, delayMs: 20 })
  const plays = clients.map(async ({ kind, afterMs, shares }) => {
    await sleep(afterMs)
    await inTime(kind, playClient(CLIENTS[kind]!, subject, shares))
  })
  await Promise.all([...plays, inTime('the restart', restartAfter(rest.restartMs))])
  const restarts = rest.restartMs === null ? 0 : 1
  const account = { subject, troubles: set, restarts, pieceBytes: PIECE_BYTES }
  // Without a size, or after wrong bytes, the whole blob is fetched whatever is read.
  const parts = rest.named && !lied
  const read = clients.flatMap(({ kind, shares }) => readBy(kind, size, shares))
  if (parts) expectCheap({ ...account, read })
  for (const upstream of upstreams) upstream.clearFaults()
  await inTime('the last client', expectGood(subject))
  await expectNothingLeft(subject)
  expectCheap({ ...account, read: [{ start: 0, end: size }] })
}

function expectCheap(account: Account): void {
  const { sent, most, requests } = costOf(account, upstreams)
  expect(sent, `more than ${most} bytes came from upstreams: ${requests}`).toBeLessThanOrEqual(most)
}

function addBlob(
  { algorithm, twice, named }: Pick<Scenario, 'algorithm' | 'twice' | 'named'>,
  bytes: Buffer,
): Digest {
  const [upstream, second] = upstreams
  const blob = upstream.addBlob(bytes, { repository: REPOSITORY, algorithm })
  if (twice) second.addBlob(bytes, { repository: REPOSITORY, algorithm })
  const config = upstream.addBlob(Buffer.from('{}'))
  const annotations = { run: String(runs) }
  const document = { schemaVersion: 2, config, layers: named ? [blob] : [], annotations }
  upstream.addManifest(REPOSITORY, document, { tag: `t${runs}` })
  return blob.digest
}

async function getManifest(tag: string): Promise<void> {
  await ask(`${chandlery.url}/v2/${REPOSITORY}/manifests/${tag}?ns=${REGISTRY}`)
}

function urlOf({ digest }: Subject): string {
  return `${chandlery.url}/v2/${REPOSITORY}/blobs/${digest}?ns=${REGISTRY}`
}

// Reports whether an error is what a client sees of a restart.
const CLOSED = /ended before the headers/

async function playClient(client: Client, subject: Subject, shares: number[]): Promise<void> {
  try {
    await client(urlOf(subject), subject, shares)
  } catch (error) {
    if (!(error instanceof Error && CLOSED.test(error.message))) throw error
  }
}

async function restartAfter(ms: number | null): Promise<void> {
  if (ms === null) return
  await sleep(ms)
  await restart()
}

// After the faults, the blob must be served at once. If upstreams sent wrong bytes, a request may
// still meet the end of a download that got them, and so may the next one.
async function expectGood(subject: Subject): Promise<void> {
  const failed: string[] = []
  let answer = await ask(urlOf(subject))
  for (let tries = 1; tries < (subject.lied ? 3 : 1) && !answer.done; tries++) {
    failed.push(`${answer.status} ${answer.bytes.toString('latin1', 0, 500)}`)
    answer = await ask(urlOf(subject))
  }
  const seen = { status: answer.status, done: answer.done }
  const told = answer.bytes.toString('latin1', 0, 500)
  expect(seen, [...failed, told].join('\n')).toEqual({ status: 200, done: true })
  expect(answer.bytes.equals(subject.bytes)).toBe(true)
}

async function inTime(what: string, work: Promise<void>): Promise<void> {
  const late = Promise.withResolvers<void>()
  const timer = setTimeout(() => late.reject(new Error(`${what} hangs`)), PATIENCE_MS)
  await Promise.race([work, late.promise]).finally(() => clearTimeout(timer))
}

async function expectNothingLeft({ digest }: Subject): Promise<void> {
  const patience = { timeout: 8000, interval: 5 }
  await expect.poll(() => filesBelow(inCache('ingest')), patience).toEqual([])
  await expect.poll(() => openBelow(inCache()), patience).toEqual([])
  const kept = (await filesBelow(inCache('blobs'))).filter((path) =>
    digest.endsWith(basename(path)),
  )
  expect(kept).toHaveLength(1)
  await expectVerified(kept)
  const errors = [...log, ...chandlery.log].filter(({ level }) => level === 'error')
  expect(errors).toEqual([])
}

function inCache(...parts: string[]): string {
  return join(directory.path, 'cache', ...parts)
}

test(
  'whatever upstreams, clients and restarts do, what is complete is right and nothing is left over',
  async () => {
    let last = Promise.resolve()
    const property = fc.asyncProperty(scenario, (one) => (last = play(one)))
    await fc.assert(property, {
      numRuns: TIME_MS,
      interruptAfterTimeLimit: TIME_MS,
      endOnFailure: true,
      seed: SEED,
    })
    // Without this, a test that runs into the time limit would go on and fail without printing its
    // seed.
    await last.catch((cause: unknown) => {
      throw new Error(`Property failed in test ${runs}\n{ seed: ${SEED} }`, { cause })
    })
    await restart()
    await expectVerified(await filesBelow(inCache('blobs')))
    expect(runs).toBeGreaterThan(5)
  },
  TIME_MS + 30_000,
)
