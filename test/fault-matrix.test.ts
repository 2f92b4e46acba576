// Every fault of an upstream, met in everything that a client can ask for, held or not, with and
// without another endpoint: what comes of it, by the table in fault-matrix/table.ts.
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectVerified, filesBelow, openBelow } from './support/cache-files.ts'
import { digestOf } from '../src/oci/digest.ts'
import { createAuthority, type TestAuthority } from './support/certificates.ts'
import { type RunningChandlery, startChandlery } from './support/chandlery.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'
import {
  CANNOT_OCCUR,
  ONE_ENDPOINT,
  readTable,
  SERVED_WITHOUT_ASKING,
  TWO_ENDPOINTS,
} from './fault-matrix/table.ts'
import { TROUBLES } from './fault-matrix/troubles.ts'
import {
  ask,
  type Cell,
  fill,
  type Given,
  registryOf,
  repositoryOf,
  startTroubled,
  type Target,
  TARGETS,
  type Troubled,
  type Wanted,
} from './fault-matrix/world.ts'

/** 30 s and more, scaled. */
const LIMITS = {
  connectTimeoutMs: 1000,
  headersTimeoutMs: 300,
  bodyStallMs: 300,
  tokenTimeoutMs: 300,
  documentTimeoutMs: 1500,
}
/**
 * Nothing takes longer: a limit or two one after the other, body limits being looked at once a second,
 * and what a busy machine adds.
 */
const LONGEST_MS = 4000
const AT_ONCE = 20

const table = readTable(ONE_ENDPOINT)

const COLUMNS: Readonly<Record<Target, { cold: string; held?: string }>> = {
  'manifest by tag': { cold: 'manifest', held: 'held: tag' },
  'manifest by digest': { cold: 'manifest' },
  blob: { cold: 'blob' },
  'large blob': { cold: 'large blob' },
  referrers: { cold: 'referrers', held: 'held: referrers' },
  token: { cold: 'token', held: 'held: token' },
  'token of a blob': { cold: 'token' },
}

function inTable({ target, fault, held }: Cell): string | undefined {
  const { cold, held: heldColumn } = COLUMNS[target]
  const column = held ? heldColumn : cold
  return column === undefined ? undefined : table.get(fault)?.get(column)
}

/** What the client is to be told; undefined: the cell cannot occur. */
function expectedOf(cell: Cell): string | undefined {
  const { target, fault, held, endpoints } = cell
  const told = inTable(cell)
  if (inTable({ ...cell, held: false }) === '-') return undefined
  if (held && SERVED_WITHOUT_ASKING.includes(target)) return 'good'
  return endpoints === 2 ? (TWO_ENDPOINTS[`${target}, ${fault}`] ?? 'good') : told
}

let numbered = 0

function cellsOf(target: Target): Cell[] {
  return [...table.keys()].flatMap((fault) => {
    return [false, true].flatMap((held) => {
      return ([1, 2] as const).map((endpoints) => {
        numbered += 1
        return { target, fault, held, endpoints, number: numbered }
      })
    })
  })
}

function titleOf({ fault, held, endpoints }: Cell): string {
  return `${fault}, ${held ? 'held' : 'not held'}, ${endpoints === 1 ? 'one endpoint' : 'two'}`
}

test('the table has every fault once, and says why a cell cannot occur', () => {
  expect([...table.keys()].toSorted()).toEqual(Object.keys(TROUBLES).toSorted())
  const impossible = [...table].filter(([, cells]) => [...cells.values()].includes('-'))
  expect(impossible.map(([fault]) => fault)).toEqual(Object.keys(CANNOT_OCCUR))
  for (const cells of table.values()) {
    expect(cells.size).toBe(8)
    for (const column of ['blob', 'large blob']) expect(cells.get(column)).not.toBe('-')
  }
  const words = [...table.values()].flatMap((cells) => [...cells.values()])
  for (const word of words) {
    expect(word).toMatch(/^(\d{3} [a-z-]+|good|cut|none|-|[a-z]+-[a-z]+|denied)$/)
  }
})

/** What became of a cell, asked twice. */
interface Played {
  readonly first: Given
  readonly next: Given
  readonly met: number | undefined
  readonly wanted: Wanted
}

/** Whether the cache has the content afterwards: if it was given, or was there; undefined: no one file tells. */
function isKept({ target, fault, held }: Cell, { first, next }: Played): boolean | undefined {
  if (target === 'referrers' || TROUBLES[fault]?.ranged) return undefined
  const wasThere = held && SERVED_WITHOUT_ASKING.includes(target)
  return wasThere || first.told === 'good' || next.told === 'good'
}

function encodedOf(bytes: Buffer): string {
  return digestOf(bytes).slice('sha256:'.length)
}

let authority: TestAuthority
let untrusted: Awaited<ReturnType<TestAuthority['server']>>

beforeAll(async () => {
  authority = await createAuthority()
  untrusted = await authority.server('127.0.0.1')
})

afterAll(async () => {
  await authority[Symbol.asyncDispose]()
})

describe.each(TARGETS)('%s', (target) => {
  const cells = cellsOf(target).filter((cell) => expectedOf(cell) !== undefined)
  const given = new Map<Cell, Played>()
  let directory: TemporaryDirectory
  let good: TestRegistry
  let chandlery: RunningChandlery
  let troubled: Map<Cell, Troubled>

  beforeAll(async () => {
    directory = await temporaryDirectory()
    good = await startRegistry()
    await hold()
    troubled = new Map(
      await inTurn(cells, async (cell) => {
        return [cell, await startTroubled(cell, untrusted)] as const
      }),
    )
    const mirrors = mirrorsOf(cells, (cell) => {
      const first = troubled.get(cell)!.endpoint
      return cell.endpoints === 1 ? [first] : [first, good.url]
    })
    const options = { limits: LIMITS, retryDelayMs: 10 }
    chandlery = await startChandlery(directory.path, configOf(mirrors), options)
    await inTurn(cells, play)
  }, 60_000)

  afterAll(async () => {
    await chandlery.stop()
    await good.close()
    for (const upstream of troubled.values()) await upstream[Symbol.asyncDispose]()
    await directory.remove()
  })

  // What is held was fetched by an earlier server, when nothing was wrong.
  async function hold(): Promise<void> {
    await using seed = await startRegistry()
    const mirrors = mirrorsOf(cells, () => [seed.url])
    await using before = await startChandlery(directory.path, configOf(mirrors))
    await inTurn(cells, async (cell) => {
      const wanted = fill(seed, cell, { old: true })
      if (cell.held) expect(await ask(before.url, cell, wanted)).toMatchObject({ told: 'good' })
      else if (isBlob) await pullManifest(before, cell)
    })
  }

  const isBlob = target.includes('blob')

  async function play(cell: Cell): Promise<void> {
    const wanted = fill(good, cell)
    const first = await ask(chandlery.url, cell, wanted)
    const { met } = troubled.get(cell)!
    given.set(cell, { first, next: await ask(chandlery.url, cell, wanted), met, wanted })
  }

  test.each(cells.map((cell) => [titleOf(cell), cell] as const))('%s', (_title, cell) => {
    const { first, next, met } = given.get(cell)!
    expect(first.told).toBe(expectedOf(cell))
    const isWaited = cell.fault === '429 with a second, once'
    expect(first.ms).toBeLessThan(isWaited ? LONGEST_MS + 1000 : LONGEST_MS)
    expect(next.ms).toBeLessThan(LONGEST_MS)
    if (cell.endpoints === 2) expect(next.told).toBe('good')
    if (cell.held && SERVED_WITHOUT_ASKING.includes(target)) expect(met ?? 0).toBe(0)
    else expect(met).not.toBe(0)
    if (first.told === '503 rate-limited' && cell.fault !== '429 without a time') {
      expect(first.retryAfter).toBeGreaterThan(50)
      expect(first.retryAfter).toBeLessThan(62)
    }
  })

  test('what was given is kept, nothing else and nothing unverified, and nothing is left open', async () => {
    await chandlery.stop()
    const cache = directory.join('cache')
    const kept = [
      ...(await filesBelow(join(cache, 'blobs'))),
      ...(await filesBelow(join(cache, 'manifests'))),
    ]
    if (target !== 'referrers') expect(kept.length).toBeGreaterThan(0)
    await expectVerified(kept)
    const digests = new Set(kept.map((path) => basename(path)))
    const wrong = [...given].filter(([cell, played]) => {
      const expected = isKept(cell, played)
      return expected !== undefined && digests.has(encodedOf(played.wanted.bytes)) !== expected
    })
    expect(wrong.map(([cell]) => titleOf(cell))).toEqual([])
    expect(await openBelow(cache)).toEqual([])
    expect(chandlery.log.filter(({ level }) => level === 'error')).toEqual([])
  })
})

/** It says how long the blob is, and that the repository has it. */
async function pullManifest({ url }: RunningChandlery, cell: Cell): Promise<void> {
  const path = `${url}/v2/${repositoryOf(cell)}/manifests/latest?ns=${registryOf(cell)}`
  expect((await fetch(path)).status).toBe(200)
}

function configOf(mirrors: Record<string, { endpoint: string[] }>): Record<string, unknown> {
  return {
    mirrors,
    defaultEndpoints: false,
    // Whatever is not by digest is asked for each time; long patience, so that failures come first.
    freshness: { ttl: '0s', revalidateTimeout: '10s', negativeTtl: '0s' },
  }
}

function mirrorsOf(
  cells: readonly Cell[],
  endpointsOf: (cell: Cell) => string[],
): Record<string, { endpoint: string[] }> {
  return Object.fromEntries(
    cells.map((cell) => [registryOf(cell), { endpoint: endpointsOf(cell) }]),
  )
}

/** A few at once. */
async function inTurn<T, R>(items: readonly T[], each: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  const left = items.entries()
  const work = async () => {
    for (const [index, item] of left) results[index] = await each(item)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  return results
}
