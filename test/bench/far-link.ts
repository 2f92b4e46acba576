// A far upstream on one machine: a second network namespace, and wan.c as the only way to it. What the
// link did is counted, so that a figure can be told from a fault of the emulation.
import { execFile, spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { cpuSeconds, type Server } from './process.ts'

const run = promisify(execFile)

const FAR = 'chandlery-bench-far'
const DEVICES = { near: 'near0', far: 'far0' }
const NETWORK = { near: '10.98.0.1/30', far: '10.98.0.2/30' }
/** Packets a device holds until wan.c comes round: more than all windows together. */
const DEVICE_QUEUE = 20_000

// Linux's own limits (6.x), pinned: they decide how much one connection can have under way. Nothing is
// remembered from one connection for the next, or the order of measurements would count.
const TCP = [
  'net.ipv4.tcp_rmem=4096 131072 33554432',
  'net.ipv4.tcp_wmem=4096 16384 4194304',
  'net.ipv4.tcp_no_metrics_save=1',
]

export interface LinkOptions {
  /** The compiled wan.c. */
  readonly program: string
  /** One way. */
  readonly delayMs: number
  readonly megabits: number
  /** Of packets that carry data, each by itself. */
  readonly lossPercent: number
  /** Of the loss: always the same one would always favour the same side. */
  readonly seed: number
  /** The sender's congestion control. */
  readonly congestion: string
}

interface Passed {
  readonly packets: number
  readonly bytes: number
  readonly lost: number
  readonly overflowed: number
  readonly lateMeanMs: number
  readonly lateMaxMs: number
}

export interface LinkReport {
  /** What went from the far side to the near one: the data. */
  readonly down: Passed
  /** Packets lost before the emulation saw them: it was too slow, and the figures are worth nothing. */
  readonly unseen: number
  /** Of one core, what the emulation itself took. */
  readonly cpuPercent: number
}

/** The way to the far side, and the place there for servers (Bench.origin). */
export class FarLink implements AsyncDisposable {
  readonly name = 'far origin'
  readonly host = NETWORK.far.split('/', 1)[0]!
  /** What starts a command at the far side. */
  readonly within = ['ip', 'netns', 'exec', FAR] as const
  readonly #program: ChildProcessByStdio<null, Readable, null>
  readonly #openedAt = performance.now()
  #report: Promise<LinkReport> | undefined

  private constructor(program: ChildProcessByStdio<null, Readable, null>) {
    this.#program = program
  }

  /** The near side is the network namespace this process is in: it has to be one of its own. */
  static async open(options: LinkOptions): Promise<FarLink> {
    const { delayMs, lossPercent, megabits, congestion } = options
    // The queue holds what fits on the way there and back, as routers are built.
    const queueKiB = Math.round((2 * delayMs * megabits * 1000) / 8 / 1024)
    const figures = [delayMs, lossPercent, megabits, queueKiB, options.seed].map(String)
    const program = spawn(options.program, [DEVICES.near, DEVICES.far, ...figures], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const link = new FarLink(program)
    try {
      await Promise.race([once(program.stdout, 'readable'), endsEarly(program)])
      await link.#connect(congestion)
      return link
    } catch (error) {
      await link[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Milliseconds there and back, as a connection to the server shows them: the best of five. */
  async roundTrip({ host, port }: Server): Promise<number> {
    const samples: number[] = []
    for (let each = 0; each < 5; each++) {
      const begun = performance.now()
      const socket = connect(port, host)
      await once(socket, 'connect')
      samples.push(performance.now() - begun)
      socket.destroy()
    }
    return Math.min(...samples)
  }

  /** Bytes that have come over the link so far, with their headers and what was sent twice. */
  get received(): number {
    return Number(readFileSync(`/sys/class/net/${DEVICES.near}/statistics/rx_bytes`, 'utf8'))
  }

  /** Ends the link and says what passed over it. */
  close(): Promise<LinkReport> {
    this.#report ??= this.#close()
    return this.#report
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => {})
  }

  async #connect(congestion: string): Promise<void> {
    // One that a killed run left behind; ip says so when there is none.
    await run('ip', ['netns', 'delete', FAR]).catch(() => {})
    await run('ip', ['netns', 'add', FAR])
    await run('ip', ['link', 'set', DEVICES.far, 'netns', FAR])
    for (const [side, options] of [['near', []] as const, ['far', ['-n', FAR]] as const]) {
      const device = DEVICES[side]
      await run('ip', [...options, 'link', 'set', 'lo', 'up'])
      await run('ip', [...options, 'address', 'add', NETWORK[side], 'dev', device])
      const queue = ['txqueuelen', String(DEVICE_QUEUE)]
      await run('ip', [...options, 'link', 'set', device, ...queue, 'up'])
    }
    await run('sysctl', ['-qw', ...TCP])
    const control = `net.ipv4.tcp_congestion_control=${congestion}`
    await this.#far('sysctl', '-qw', ...TCP, control)
  }

  async #far(...command: string[]): Promise<void> {
    const [ip, ...args] = this.within
    await run(ip, [...args, ...command])
  }

  async #close(): Promise<LinkReport> {
    const program = this.#program
    try {
      if (program.exitCode !== null || program.pid === undefined) throw new Error('wan.c has ended')
      const unseen = (await dropped(DEVICES.near)) + (await dropped(DEVICES.far, '-n', FAR))
      const seconds = cpuSeconds(program.pid)
      const wall = (performance.now() - this.#openedAt) / 1000
      return { down: await this.#end(), unseen, cpuPercent: (seconds / wall) * 100 }
    } finally {
      program.kill('SIGKILL')
      await run('ip', ['netns', 'delete', FAR])
    }
  }

  async #end(): Promise<Passed> {
    const output = text(this.#program.stdout)
    this.#program.kill('SIGTERM')
    const printed = (await output).split('\n').find((line) => line.startsWith('{'))
    return (JSON.parse(printed ?? '{}') as { down: Passed }).down
  }
}

async function endsEarly(program: ChildProcessByStdio<null, Readable, null>): Promise<never> {
  await once(program, 'exit')
  throw new Error('wan.c ended at once: is /dev/net/tun there, and is this root?')
}

// What found the device's queue full.
async function dropped(device: string, ...options: string[]): Promise<number> {
  const { stdout } = await run('ip', [...options, '-json', '-stats', 'link', 'show', 'dev', device])
  const [link] = JSON.parse(stdout) as { stats64: { tx: { dropped: number } } }[]
  return link?.stats64.tx.dropped ?? 0
}
