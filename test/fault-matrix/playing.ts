// Runs the cells of a group against one server: two pulls of each cell, and one more after all
// upstreams have gone.
import { join } from 'node:path'
import { filesBelow, unverified } from '../support/cache-files.ts'
import type { KeyPair } from '../support/certificates.ts'
import { type RunningChandlery, startChandlery } from '../support/chandlery.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import { type Cell, type Group, isBlob, type Position } from './cells.ts'
import { addContent, type Given, type Name, pull, TAG, type Wanted } from './content.ts'
import { type Faulty, refusedHost, startFaulty } from './faulty.ts'
import { troubleOf } from './troubles.ts'

/** The result of a cell. */
export interface Played {
  readonly first: Given
  /** How often the first pull met the fault. Undefined if that cannot be observed. */
  readonly met: number | undefined
  readonly next: Given
  /** The state of the endpoint through which the fault is met. */
  readonly state: string | undefined
  /** The response after all upstreams have gone. */
  readonly afterwards: Given
}

/** The result of a group. */
export interface Outcome {
  readonly cells: ReadonlyMap<Cell, Played>
  /** The states of the endpoints without a fault. */
  readonly others: readonly (string | undefined)[]
  /**
   * The paths of blobs and manifests in the cache whose bytes do not have the digest in their name.
   */
  readonly wrong: readonly string[]
  /** The directory of the cache. It has been removed. */
  readonly cache: string
  /** Log lines. */
  readonly errors: readonly Record<string, unknown>[]
}

/** The limits that hold by default, 15 s and 30 s, scaled. */
const SHORT = { timeouts: { firstByte: '600ms', stall: '600ms' } }
/** What a stopping server reports if the disk takes longer than 3 s, as on a busy machine. */
const SLOW_DISK = 'release the directory'

type Mirrors = Record<string, { readonly endpoint: readonly string[] }>

/** Coordinates the groups, which share one machine. */
export interface Schedule {
  /** Runs a task as soon as few enough are running. */
  readonly quick: Take
  /** As `run`, for tasks that mostly wait. */
  readonly waiting: Take
  /**
   * Resolves when all groups have called it: filling caches would hold up pulls that are measured.
   */
  readonly together: () => Promise<void>
}

export type Take = <T>(task: () => Promise<T>) => Promise<T>

export function nameOf({ number }: Cell): Name {
  return { registry: `cell-${number}.test`, repository: `cells/cell-${number}` }
}

/** `untrusted` is a certificate of an unknown authority. */
export async function playGroup(
  group: Group,
  untrusted: KeyPair,
  { quick, waiting, together }: Schedule,
): Promise<Outcome> {
  await using stack = new AsyncDisposableStack()
  const directory = await temporaryDirectory()
  stack.defer(() => directory.remove())
  const good = stack.use(await startRegistry())
  const empty = stack.use(await startRegistry({ referrers: 'none' }))
  const { cells } = group
  const each = async <T>(play: (cell: Cell) => Promise<T>): Promise<Map<Cell, T>> => {
    const entries = cells.map((cell) => {
      const take = troubleOf(cell.fault).waits === true ? waiting : quick
      return take(async () => [cell, await play(cell)] as const)
    })
    return new Map(await Promise.all(entries))
  }
  const wanted = await hold(directory.path, cells, good, each)

  const faulty = await each(async (cell) => {
    const { repository } = nameOf(cell)
    const { content } = good
    const trouble = troubleOf(cell.fault)
    const options = { cell, trouble, repository, content, untrusted, wanted: wanted.get(cell)! }
    return stack.use(await startFaulty(options))
  })
  const endpoints = await each(async (cell) => {
    const { url } = faulty.get(cell)!
    const others: Record<Position, () => Promise<string[]>> = {
      alone: async () => [url],
      first: async () => [url, good.url],
      standby: async () => [good.url, url],
      'after 404': async () => [empty.url, url],
      'after 500': async () => {
        const broken = stack.use(await startRegistry())
        broken.fault({ status: 500 })
        return [broken.url, url]
      },
    }
    return await others[cell.position]()
  })
  const options = { retryDelayMs: 10 }
  const mirrors = mirrorsOf(cells.map((cell) => [nameOf(cell).registry, endpoints.get(cell)!]))
  const slow = cells.filter(({ fault }) => troubleOf(fault).waits === true)
  const impatient = impatientWith(slow.map((cell) => faulty.get(cell)!.url))
  const config = { ...configOf(mirrors), ...impatient }
  const chandlery = await startChandlery(directory.path, config, options)
  await together()
  const pulled = await each((cell) =>
    pullTwice(chandlery, cell, wanted.get(cell)!, faulty.get(cell)!),
  )
  const states = await statesOf(chandlery)
  await chandlery.stop()
  const cache = directory.join('cache')

  const nobody = cells.map((cell): [string, string[]] => {
    return [nameOf(cell).registry, [`http://${refusedHost(cell.number)}`]]
  })
  await using after = await startChandlery(directory.path, configOf(mirrorsOf(nobody)), options)
  const afterwards = await each((cell) => pull(after.url, nameOf(cell), wanted.get(cell)!))
  await after.stop()
  const kept = await Promise.all([join(cache, 'blobs'), join(cache, 'manifests')].map(filesBelow))
  return {
    cells: new Map(
      cells.map((cell) => [
        cell,
        {
          ...pulled.get(cell)!,
          state: states.get(faulty.get(cell)!.url),
          afterwards: afterwards.get(cell)!,
        },
      ]),
    ),
    others: [good, empty].map(({ url }) => states.get(url)),
    wrong: await unverified(kept.flat()),
    cache,
    errors: [...chandlery.log, ...after.log].filter(({ level, operation }) => {
      return level === 'error' && operation !== SLOW_DISK
    }),
  }
}

/**
 * Adds the content of all cells to `good`, and lets an earlier server fetch the content that is to
 * be held, before there is any fault.
 */
async function hold(
  directory: string,
  cells: readonly Cell[],
  good: TestRegistry,
  each: <T>(play: (cell: Cell) => Promise<T>) => Promise<Map<Cell, T>>,
): Promise<Map<Cell, Wanted>> {
  await using seed = await startRegistry()
  const mirrors = mirrorsOf(cells.map((cell) => [nameOf(cell).registry, [seed.url]]))
  await using before = await startChandlery(directory, configOf(mirrors))
  return await each(async (cell) => {
    const name = nameOf(cell)
    const wanted = addContent({ now: good, old: seed }, name.repository, cell.content)
    if (cell.held) {
      const { told } = await pull(before.url, name, { ...wanted, bytes: wanted.before })
      if (told !== 'good') throw new Error(`${name.repository} is not held: ${told}`)
    } else if (isBlob(cell)) await pullManifest(before, name)
    return wanted
  })
}

/** The manifest says how long the blob is, and that the repository has it. */
async function pullManifest(
  { url }: RunningChandlery,
  { registry, repository }: Name,
): Promise<void> {
  const response = await fetch(`${url}/v2/${repository}/manifests/${TAG}?ns=${registry}`)
  await response.arrayBuffer()
  if (!response.ok) throw new Error(`no manifest of ${repository}: ${response.status}`)
}

async function pullTwice(
  { url }: RunningChandlery,
  cell: Cell,
  wanted: Wanted,
  faulty: Faulty,
): Promise<Pick<Played, 'first' | 'met' | 'next'>> {
  const from = troubleOf(cell.fault).ranged === true ? wanted.bytes.length / 2 : 0
  const first = await pull(url, nameOf(cell), wanted, from)
  const { met } = faulty
  return { first, met, next: await pull(url, nameOf(cell), wanted, from) }
}

/** Returns the endpoints' states by URL, from /readyz?verbose. */
export async function statesOf({ adminUrl }: RunningChandlery): Promise<Map<string, string>> {
  const text = await (await fetch(`${adminUrl}/readyz?verbose`)).text()
  const lines = text.matchAll(/^(http\S+)\/v2: (ok|open|half-open|limited)\b/gm)
  return new Map([...lines].map(([, url, state]) => [url!, state!]))
}

export function configOf(mirrors: Mirrors): Record<string, unknown> {
  return {
    mirrors,
    defaultEndpoints: false,
    // What is not asked for by digest is asked for each time, and the answer is waited for.
    freshness: { ttl: '0s', revalidateTimeout: '10s', negativeTtl: '0s' },
  }
}

/** Sets short time limits for these endpoints and their hosts: only they are to run into one. */
export function impatientWith(urls: readonly string[]): Record<string, unknown> {
  return { configs: Object.fromEntries(urls.map((url) => [new URL(url).host, SHORT])) }
}

export function mirrorsOf(
  registries: Iterable<readonly [registry: string, endpoints: readonly string[]]>,
): Mirrors {
  return Object.fromEntries([...registries].map(([name, endpoint]) => [name, { endpoint }]))
}

/** Runs tasks in order, a limited number at once. */
export function limited(most: number): Take {
  let running = 0
  const waiting: (() => void)[] = []
  return async (task) => {
    if (running === most) await new Promise<void>((resolve) => waiting.push(resolve))
    else running += 1
    try {
      return await task()
    } finally {
      const next = waiting.shift()
      if (next === undefined) running -= 1
      else next()
    }
  }
}
