// npm run bench -- wan [--quick] [--only=bbr]: a blob from a far upstream, over one plain connection and through
// Chandlery with nothing held, on an emulated link of 50 ms and 1 Gbit/s with and without loss.
import { randomInt } from 'node:crypto'
import { accessSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { blob, MIB } from './blob.ts'
import { FarLink, type LinkReport } from './far-link.ts'
import { median, rounded } from './figures.ts'
import { compile, download } from './load.ts'
import { missingPrograms, type Server } from './process.ts'
import type { Row, Setting } from './setting.ts'

const DELAY_MS = 25
const MEGABITS = 1000
const SIZE_MIB = 200
/** Until a request that was given up is over at the far side too, and in its log. */
const SETTLE_MS = 500
/** Of Chandlery's log, when a download failed: characters. */
const LOG_SHOWN = 4000

interface Link {
  readonly name: string
  readonly lossPercent: number
  readonly congestion: string
  /** What Chandlery has to be, in times of one plain connection. */
  readonly target: number
  /** Compared again so often; where a comparison takes minutes, once. */
  readonly rounds: number
  /**
   * Plain connections at once, of which the average counts. Where loss keeps each far below the link's
   * rate they do not meet, and one alone is a matter of luck: twice as fast in one minute as in another.
   */
  readonly plain: number
}

const FAST = { rounds: 3, plain: 1 }
const SLOW = { rounds: 1, plain: 8 }
const LINKS: readonly Link[] = [
  { name: 'clean, cubic', congestion: 'cubic', target: 1.5, lossPercent: 0, ...FAST },
  { name: '0.5 % loss, bbr', congestion: 'bbr', target: 2, lossPercent: 0.5, ...FAST },
  { name: '0.1 % loss, cubic', congestion: 'cubic', target: 5, lossPercent: 0.1, ...SLOW },
  { name: '0.5 % loss, cubic', congestion: 'cubic', target: 5, lossPercent: 0.5, ...SLOW },
]

/** What this machine lacks to emulate a far link, in words for the operator. */
export function missingForWan(): string[] {
  const missing = missingPrograms('cc', 'nginx', 'ip', 'sysctl')
  if (process.getuid?.() !== 0) missing.push('root')
  else if (!process.env['CHANDLERY_BENCH_NAMESPACE'])
    missing.push(
      'a network namespace of its own (none could be made: end the other benchmark, ' +
        'or `ip netns delete chandlery-bench`)',
    )
  try {
    accessSync('/dev/net/tun')
  } catch {
    missing.push('/dev/net/tun (modprobe tun)')
  }
  return missing
}

interface Sample {
  readonly plain: number
  readonly chandlery: number
  readonly complete: boolean
  readonly errors: number
  readonly requests: number
  readonly connections: number
  /** Bytes that came over the link, headers too (4 %), for each byte delivered. */
  readonly carried: number
}

/** Bytes delivered in order: the whole blob, or what came of it in a minute. */
export async function wan(setting: Setting): Promise<void> {
  const program = join(setting.bench.directory, 'wan')
  await compile(join(import.meta.dirname, 'wan.c'), program)
  using interruption = new Interruption(setting.quick ? 3 : 10)
  const found: Row[] = []
  const emulation: Row[] = []
  try {
    for (const link of LINKS.filter(({ name }) => name.includes(setting.only))) {
      const measured = await measure(setting, link, program, interruption.signal)
      process.stderr.write(`${link.name}: ${measured.row['ratio'] ?? 'left out'}\n`)
      found.push(measured.row)
      emulation.push(measured.proof)
    }
  } catch (error) {
    throw interruption.signal.aborted ? interruption.signal.reason : error
  } finally {
    setting.report(`${SIZE_MIB} MiB from a far upstream (50 ms, 1 Gbit/s), nothing held`, found)
    setting.report('What the emulated link did', emulation)
  }
}

async function measure(
  setting: Setting,
  link: Link,
  program: string,
  signal: AbortSignal,
): Promise<{ row: Row; proof: Row }> {
  const { lossPercent, congestion } = link
  if (!isOffered(congestion)) {
    const why = `this kernel has no ${congestion}`
    return { row: { link: link.name, 'plain MB/s': why }, proof: { link: link.name, sound: why } }
  }
  const seed = randomInt(2 ** 32)
  const shape = { delayMs: DELAY_MS, megabits: MEGABITS, lossPercent, seed, congestion }
  await using far = await FarLink.open({ program, ...shape })
  await using origin = await setting.bench.origin(setting.manifestDigest, far)
  const roundTrip = await far.roundTrip(origin)
  const samples: Sample[] = []
  for (let round = 0; round < (setting.quick ? 1 : link.rounds); round++)
    samples.push(await compare(setting, link, { far, origin, signal }))
  const row = verdict(link, samples)
  return { row, proof: proof(link, roundTrip, { seed, ...(await far.close()) }) }
}

interface Place {
  readonly far: FarLink
  readonly origin: Server & { log: string }
  readonly signal: AbortSignal
}

async function compare(
  { bench, sink, quick }: Setting,
  link: Link,
  { far, origin, signal }: Place,
): Promise<Sample> {
  const path = blob(bench, SIZE_MIB)
  const options = { limit: quick ? 20 : 60, signal }
  const plain = await download(sink, origin, path, { ...options, connections: link.plain })
  await sleep(SETTLE_MS, undefined, { signal })
  writeFileSync(origin.log, '')
  const { cold, carried, log } = await throughChandlery()
  if (cold.errors > 0) process.stderr.write(readFileSync(log, 'utf8').slice(-LOG_SHOWN))
  await sleep(SETTLE_MS, undefined, { signal })
  const lines = readFileSync(origin.log, 'utf8').split('\n')
  const requests = lines.filter((line) => line.startsWith('GET'))
  return {
    plain: plain.bytes / link.plain / 1e6 / plain.wall,
    chandlery: cold.bytes / 1e6 / cold.wall,
    complete: cold.bytes === SIZE_MIB * MIB,
    errors: cold.errors,
    requests: requests.length,
    connections: new Set(requests.map((line) => line.split(' ')[4])).size,
    carried: carried / cold.bytes,
  }

  async function throughChandlery() {
    await using server = await bench.chandlery(origin)
    // As every client does: a blob is known from its manifest.
    const manifest = await fetch(`http://${server.host}:${server.port}/v2/bench/manifests/latest`)
    await manifest.arrayBuffer()
    const before = far.received
    const got = await download(sink, server, path, options)
    return { cold: got, carried: far.received - before, log: server.log }
  }
}

function verdict({ name, target }: Link, samples: readonly Sample[]): Row {
  const of = (figure: (sample: Sample) => number) => rounded(median(samples.map(figure)))
  const ratio = of((s) => s.chandlery) / of((s) => s.plain)
  const errors = samples.reduce((sum, sample) => sum + sample.errors, 0)
  return {
    link: name,
    'plain MB/s': of((s) => s.plain),
    'Chandlery MB/s': of((s) => s.chandlery),
    ratio: `${ratio.toFixed(2)}x`,
    'to reach': `${target}x ${ratio >= target ? 'reached' : 'missed'}`,
    'whole blob': `${samples.filter((s) => s.complete).length} of ${samples.length}`,
    errors,
    GETs: of((s) => s.requests),
    connections: of((s) => s.connections),
    'carried / delivered': of((s) => s.carried),
  }
}

function proof(
  { name, lossPercent }: Link,
  roundTrip: number,
  { seed, ...report }: LinkReport & { seed: number },
): Row {
  const { down } = report
  return {
    link: name,
    'round trip ms': rounded(roundTrip),
    packets: down.packets,
    'lost %': rounded((down.lost / down.packets) * 100),
    'of a full queue': down.overflowed,
    unseen: report.unseen,
    'late ms': `${rounded(down.lateMeanMs)}, at most ${rounded(down.lateMaxMs)}`,
    'CPU %': rounded(report.cpuPercent),
    seed,
    sound: doubts(lossPercent, roundTrip, report).join('; ') || 'yes',
  }
}

// Loss is random: four standard deviations off is no chance any more.
function doubts(lossPercent: number, roundTrip: number, { down, unseen }: LinkReport): string[] {
  const expected = (down.packets * lossPercent) / 100
  const isLossRight = Math.abs(down.lost - expected) <= 4 * Math.sqrt(expected) + 5
  const doubted: string[] = []
  if (Math.abs(roundTrip / (2 * DELAY_MS) - 1) > 0.1) doubted.push('round trip')
  if (!isLossRight) doubted.push('loss')
  if (unseen > 0) doubted.push('packets lost elsewhere')
  if (down.lateMeanMs > 1) doubted.push('machine too busy')
  return doubted
}

function isOffered(congestion: string): boolean {
  const offered = readFileSync('/proc/sys/net/ipv4/tcp_available_congestion_control', 'utf8')
  return offered.trim().split(' ').includes(congestion)
}

/** Aborts on the first signal, or after some minutes, so that everything is put away in order. */
class Interruption implements Disposable {
  readonly #controller = new AbortController()
  readonly #interrupt = (): void => this.#controller.abort(new Error('wan: interrupted'))
  readonly #timer: NodeJS.Timeout

  constructor(minutes: number) {
    const late = new Error(`wan: not done after ${minutes} minutes`)
    this.#timer = setTimeout(() => this.#controller.abort(late), minutes * 60_000)
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, this.#interrupt)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, this.#interrupt)
  }
}
