// Programs that the scenario starts: run to their end with a time limit, or kept until it is over.
import { spawn, type ChildProcess } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const LOG_LINES_SHOWN = 25
const STOP_MS = 10_000
const FIRST_PORT = 12_000
const PORTS_END = 32_000
const running = new Set<ChildProcess>()
const given = new Set<number>()

// When this process ends, for whatever reason, the programs that it started end too.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  /** Default one minute. */
  readonly timeoutMs?: number
}

/** Our environment without proxies: everything is on loopback. */
export function cleanEnvironment(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/_proxy$/i.test(name))
  return { ...Object.fromEntries(own), ...more }
}

/** Runs a program to its end, whatever its exit code. */
export async function tryRun(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const { env, input, timeoutMs = 60_000 } = options
  const child = spawn(command, args, {
    env: cleanEnvironment(env),
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  })
  running.add(child)
  const texts = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (texts.stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (texts.stderr += text))
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const { promise, resolve, reject } = Promise.withResolvers<number | null>()
  child.once('error', reject).once('close', resolve)
  const code = await promise.finally(() => running.delete(child))
  return { code, ...texts }
}

/** Runs a program that has to succeed; resolves with what it printed. */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const { code, stdout, stderr } = await tryRun(command, args, options)
  if (code === 0) return stdout
  throw new Error(`${command} ${args.join(' ')}\nended with ${code}:\n${tail(stderr || stdout)}`)
}

/** A program that runs until it is stopped; its output goes to a file. */
export class Daemon implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #name: string
  readonly #logFile: string
  readonly #ended: Promise<number | null>

  constructor(name: string, command: string, args: readonly string[], logFile: string) {
    this.#name = name
    this.#logFile = logFile
    this.#child = spawn(command, args, {
      env: cleanEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    running.add(this.#child)
    const log = createWriteStream(logFile, { flags: 'a' })
    this.#child.stdout?.pipe(log, { end: false })
    this.#child.stderr?.pipe(log, { end: false })
    const { promise, resolve } = Promise.withResolvers<number | null>()
    this.#child.once('error', () => resolve(null)).once('close', resolve)
    this.#ended = promise.finally(() => {
      running.delete(this.#child)
      log.end()
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /**
   * Waits until `ready` is true; fails with the end of the log when the program ends or time is up.
   */
  async until(ready: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
    const deadline = Date.now() + timeoutMs
    while (!(await ready().catch(() => false))) {
      if (Date.now() > deadline) throw await this.#failure('was not ready in time')
      if (!running.has(this.#child)) throw await this.#failure('ended')
      await sleep(50)
    }
  }

  /** Everything it printed. */
  async log(): Promise<string> {
    return await readFile(this.#logFile, 'utf8')
  }

  /** Sends the signal and resolves with the exit code; SIGKILL after ten seconds. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.#child.kill(signal)
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS)
    const code = await this.#ended
    clearTimeout(killer)
    return code
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  async #failure(what: string): Promise<Error> {
    return new Error(`${this.#name} ${what}:\n${tail(await this.log())}`)
  }
}

/** The end of a long text. */
export function tail(text: string): string {
  return text.trimEnd().split('\n').slice(-LOG_LINES_SHOWN).join('\n')
}

/**
 * A loopback port that nobody listens on. From below those that the system gives to whoever
 * connects or asks for any port (ip_local_port_range): it stays free while what listens there is
 * restarted.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST_PORT + Math.floor(Math.random() * (PORTS_END - FIRST_PORT))
    if (!given.has(port) && (await canListen(port))) {
      given.add(port)
      return port
    }
  }
}

async function canListen(port: number): Promise<boolean> {
  const server = createServer()
  const { promise, resolve } = Promise.withResolvers<boolean>()
  server.once('error', () => resolve(false))
  server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  return await promise
}

/** Reports whether the URL answers with this status. */
export async function answers(url: string, status: number): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(2_000) })
  await response.body?.cancel()
  return response.status === status
}

/** Reports whether something listens on the loopback port. */
export async function canConnect(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const { promise, resolve } = Promise.withResolvers<boolean>()
  socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
  return await promise.finally(() => socket.destroy())
}
