// The servers under test as child processes: started, waited for, their CPU seconds read, stopped
// by pid.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

const PACKAGES = { cc: 'gcc', nginx: 'nginx', ip: 'iproute2', sysctl: 'procps' } as const

export interface Server extends AsyncDisposable {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly pid: number
}

/** Starts a server and waits until its port accepts; its output goes to `log`. */
export async function startServer(
  name: string,
  port: number,
  [command, ...args]: [string, ...string[]],
  log: string,
  host = '127.0.0.1',
): Promise<Server> {
  const output = openSync(log, 'a')
  const child = spawn(command, args, { stdio: ['ignore', output, output] })
  const gone = once(child, 'exit').then(() => {
    throw new Error(`${name} ended: ${readFileSync(log, 'utf8').slice(-2000)}`)
  })
  await Promise.race([accepts(port, host), gone])
  gone.catch(() => {})
  return { name, host, port, pid: child.pid!, [Symbol.asyncDispose]: () => stop(child) }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000)
  await ended
  clearTimeout(timer)
}

async function accepts(port: number, host: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const socket = connect(port, host)
    const open = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (open) return
    await sleep(50)
  }
  throw new Error(`nothing listens on ${host}:${port}`)
}

/** Returns the user and system CPU seconds of a process and its children so far. */
export function cpuSeconds(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')
  const own = statFields(pid)
  const ticks = Number(own[11]) + Number(own[12])
  const rest = children.filter(Boolean).map((child) => cpuSeconds(Number(child)))
  return rest.reduce((sum, seconds) => sum + seconds, ticks / TICKS_PER_SECOND)
}

/** Returns the peak resident memory of a process in MiB. */
export function peakMemory(pid: number): number {
  const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1] ?? 0) / 1024
}

// What follows the process's name, which may hold spaces, in /proc/PID/stat.
function statFields(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

export function isInstalled(command: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Returns the commands that are not installed, each with the package that contains it. */
export function missingPrograms(...commands: (keyof typeof PACKAGES)[]): string[] {
  const missing = commands.filter((command) => !isInstalled(command))
  return missing.map((command) => `${command} (package ${PACKAGES[command]})`)
}
