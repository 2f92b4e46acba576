// Faults that end: which ones, on which hosts, and the responses before and after the end.
import { setTimeout as sleep } from 'node:timers/promises'
import type { KeyPair } from '../support/certificates.ts'
import { type RunningChandlery, startChandlery } from '../support/chandlery.ts'
import { syntheticBytes } from '../support/content.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import type { Cell, Host, Position } from './cells.ts'
import { type Name, pull, type Wanted } from './content.ts'
import { type Faulty, startFaulty } from './faulty.ts'
import { configOf, impatientWith, mirrorsOf, statesOf, type Take } from './playing.ts'
import { type Trouble, troubleOf } from './troubles.ts'

/** A fault that ends. */
export interface Ending {
  readonly trouble: Trouble
  /** How many requests meet it. For `refused`: how many pulls are made before the host is back. */
  readonly times: number
  /** How long the host is not asked, by its Retry-After or by default, in milliseconds. */
  readonly pauseMs?: number
}

/** Enough failures to open a breaker. One is enough if it costs time. */
const IN_A_ROW = 3

/** One fault of each kind that Chandlery remembers differently. */
export const ENDINGS: Readonly<Record<string, Ending>> = {
  '403 JSON': { trouble: troubleOf('403 JSON'), times: IN_A_ROW },
  '404': { trouble: troubleOf('404'), times: IN_A_ROW },
  '429 with a second': { trouble: troubleOf('429 with a second, once'), times: 2, pauseMs: 1000 },
  '429 without a time': { trouble: troubleOf('429 without a time'), times: 1, pauseMs: 5000 },
  '500': { trouble: troubleOf('500'), times: IN_A_ROW },
  '503 with two seconds': {
    trouble: { fault: () => ({ status: 503, headers: { 'retry-after': '2' } }) },
    times: 1,
    pauseMs: 2000,
  },
  '200 HTML': { trouble: troubleOf('200 HTML'), times: IN_A_ROW },
  refused: { trouble: troubleOf('refused'), times: IN_A_ROW },
  reset: { trouble: troubleOf('reset'), times: IN_A_ROW },
  'hang before headers': { trouble: troubleOf('hang before headers'), times: 1 },
  'stall before the first byte': { trouble: troubleOf('stall before the first byte'), times: 1 },
  'stall in body': { trouble: troubleOf('stall in body'), times: 1 },
  'cut at byte k': { trouble: troubleOf('cut at byte k'), times: IN_A_ROW },
  'corrupt byte': { trouble: troubleOf('corrupt byte'), times: IN_A_ROW },
  'redirect to a dead host': { trouble: troubleOf('redirect to a dead host'), times: IN_A_ROW },
}

type HealingPosition = Exclude<Position, 'after 500'>

export interface HealingCell extends Pick<Cell, 'content' | 'fault' | 'host' | 'number'> {
  readonly position: HealingPosition
}

/** The result of a cell. Times are in milliseconds after the fault ended; undefined means never. */
export interface Healed {
  /** Whether the fault was met as often as intended. */
  readonly isOver: boolean
  /** The responses until then. */
  readonly during: readonly string[]
  /** The later responses for content that only the other endpoint has. */
  readonly elsewhere: readonly string[]
  /** How many pulls were refused after that. */
  readonly refused: number
  readonly goodAfterMs: number | undefined
  readonly okAfterMs: number | undefined
  /** Requests that the host answered well. */
  readonly served: number
}

/** Far from the numbers of the matrix, because addresses are derived from them. */
const FIRST_NUMBER = 20_000

/**
 * What a token server or a CDN does is remembered with what its endpoint does, so a few stand for
 * all.
 */
const FEW = [
  '403 JSON',
  '429 without a time',
  '500',
  'refused',
  'hang before headers',
  'cut at byte k',
]

/** An endpoint's documents and its blobs are remembered apart. */
export const HEALING_CELLS: readonly HealingCell[] = [
  ...combinations('endpoint', 'manifest by tag', Object.keys(ENDINGS)),
  ...combinations('endpoint', 'blob', Object.keys(ENDINGS)),
  ...combinations('token server', 'manifest by tag', FEW),
  ...combinations('CDN', 'blob', FEW),
].map((cell, index) => ({ ...cell, number: FIRST_NUMBER + index }))

function combinations(
  host: Host,
  content: 'manifest by tag' | 'blob',
  faults: readonly string[],
): Omit<HealingCell, 'number'>[] {
  const positions = ['alone', 'first', 'after 404', 'standby'] as const
  return faults.flatMap((fault) => {
    return positions.map((position) => ({ content, fault, host, position }))
  })
}

const LAYER_BYTES = 32 * 1024
/** The pause between two pulls, in milliseconds. */
const RETRY_MS = 200
/** How long a cell may take, in milliseconds. */
const GIVE_UP_MS = 20_000
/**
 * How long only the other endpoint is needed, in milliseconds: longer than a breaker first stays
 * open.
 */
const ELSEWHERE_MS = 1500

/**
 * Runs the cells. Standbys have `health.probe`: while no request needs them, only a probe can show
 * that they work again. The others recover without it.
 */
export async function playHealing(
  cells: readonly HealingCell[],
  untrusted: KeyPair,
  take: Take,
): Promise<Map<HealingCell, Healed>> {
  const standbys = cells.filter(({ position }) => position === 'standby')
  const others = cells.filter(({ position }) => position !== 'standby')
  const played = await Promise.all([
    playAll(standbys, { health: { probe: '1s' } }, untrusted, take),
    playAll(others, {}, untrusted, take),
  ])
  return new Map(played.flat())
}

async function playAll(
  cells: readonly HealingCell[],
  config: Record<string, unknown>,
  untrusted: KeyPair,
  take: Take,
): Promise<(readonly [HealingCell, Healed])[]> {
  await using stack = new AsyncDisposableStack()
  const directory = await temporaryDirectory()
  stack.defer(() => directory.remove())
  const patients = await Promise.all(cells.map((cell) => startPatient(cell, untrusted, stack)))
  const mirrors = mirrorsOf(patients.map(({ name, endpoints }) => [name.registry, endpoints]))
  const slow = patients.filter(({ cell }) => ENDINGS[cell.fault]?.trouble.waits === true)
  const impatient = impatientWith(slow.map(({ faulty }) => faulty.url))
  const all = { ...configOf(mirrors), ...impatient, ...config }
  await using chandlery = await startChandlery(directory.path, all, { retryDelayMs: 10 })
  const healed = patients.map((patient) => {
    return take(async () => [patient.cell, await heal(patient, chandlery)] as const)
  })
  return await Promise.all(healed)
}

/** An endpoint with a fault that ends, in the registry of a cell. */
interface Patient {
  readonly cell: HealingCell
  readonly name: Name
  readonly faulty: Faulty
  readonly endpoints: readonly string[]
  /** The content of this endpoint. */
  readonly content: TestRegistry
  /** The endpoint before it, which has other content. */
  readonly other: TestRegistry
}

async function startPatient(
  cell: HealingCell,
  untrusted: KeyPair,
  stack: AsyncDisposableStack,
): Promise<Patient> {
  const { trouble, times } = ENDINGS[cell.fault]!
  const repository = `healing/cell-${cell.number}`
  const good = stack.use(await startRegistry())
  const other = stack.use(await startRegistry())
  const { manifest, layer } = addImage(good, repository, 'v0')
  const wanted = cell.content === 'blob' ? layer : manifest
  const { content } = good
  const options = { cell, trouble, times, repository, wanted, content, untrusted }
  const faulty = stack.use(await startFaulty(options))
  if (trouble.host === 'refused') await faulty.stop()
  const endpoints = {
    alone: [faulty.url],
    first: [faulty.url, good.url],
    'after 404': [other.url, faulty.url],
    standby: [other.url, faulty.url],
  }[cell.position]
  const name = { registry: `cell-${cell.number}.test`, repository }
  return { cell, name, faulty, endpoints, content: good, other }
}

interface Image {
  readonly manifest: Wanted
  readonly layer: Wanted
}

/** All images have parts of equal sizes, so that a fault fits each. */
function addImage(registry: TestRegistry, repository: string, tag: string): Image {
  const layer = syntheticBytes(`${repository} ${tag}`, 0, LAYER_BYTES)
  const { bytes, layers } = registry.addImage(repository, tag, { layers: [layer] })
  return {
    manifest: { path: `manifests/${tag}`, bytes, before: bytes },
    layer: { path: `blobs/${layers[0]!.digest}`, bytes: layer, before: layer },
  }
}

async function heal(patient: Patient, chandlery: RunningChandlery): Promise<Healed> {
  const { cell, faulty, name, content, other } = patient
  const { trouble, times } = ENDINGS[cell.fault]!
  const giveUpAt = performance.now() + GIVE_UP_MS
  const goesOn = () => performance.now() < giveUpAt
  const pullFrom = async (image: Image) => {
    const told = await pullImage(chandlery.url, name, image)
    await sleep(RETRY_MS)
    return told
  }
  let count = 0
  const next = () => addImage(content, name.repository, `v${count++}`)

  const during: string[] = []
  let image = next()
  const isOver = () => {
    return trouble.host === 'refused' ? during.length >= times : faulty.isOver
  }
  while (!isOver() && goesOn()) {
    const told = await pullFrom(image)
    during.push(told)
    if (told === 'good') image = next()
  }
  const ended = isOver()
  if (trouble.host === 'refused') await faulty.start()
  const overAt = performance.now()
  const since = () => performance.now() - overAt
  const isOk = async () => (await statesOf(chandlery)).get(faulty.url) === 'ok'

  const elsewhere: string[] = []
  while (cell.position === 'after 404' && since() < ELSEWHERE_MS) {
    elsewhere.push(await pullFrom(addImage(other, name.repository, `other${elsewhere.length}`)))
  }
  let okAfterMs: number | undefined
  while (cell.position === 'standby' && okAfterMs === undefined && goesOn()) {
    if (await isOk()) okAfterMs = since()
    else await sleep(RETRY_MS)
  }
  let refused = 0
  let goodAfterMs: number | undefined
  while (goodAfterMs === undefined && goesOn()) {
    const told = await pullFrom(image)
    if (told === 'good') goodAfterMs = since()
    else refused += 1
  }
  while ((okAfterMs === undefined || faulty.served === 0) && goesOn()) {
    if (await isOk()) okAfterMs ??= since()
    const told = await pullFrom(next())
    if (cell.position === 'first') during.push(told)
  }
  return {
    isOver: ended,
    during,
    elsewhere,
    refused,
    goodAfterMs,
    okAfterMs,
    served: faulty.served,
  }
}

/** Returns the response for the first part that a client does not get, or `good`. */
async function pullImage(url: string, name: Name, { manifest, layer }: Image): Promise<string> {
  const { told } = await pull(url, name, manifest)
  // Held content may be served while its endpoint is not asked.
  if (told !== 'good' && !told.endsWith(', new')) return told
  return (await pull(url, name, layer)).told
}
