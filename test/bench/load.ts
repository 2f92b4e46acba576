// The clients: sink for bodies, wrk for requests a second. Each runs apart from what it measures.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { cpuSeconds, type Server } from './process.ts'

const run = promisify(execFile)

/** docker-registry hides an OCI manifest from who does not ask for one. */
const ACCEPT = 'Accept: application/vnd.oci.image.manifest.v1+json'

export interface Download {
  readonly bytes: number
  readonly requests: number
  readonly errors: number
  /** Seconds. */
  readonly wall: number
  /** Milliseconds. */
  readonly firstByte50: number
  readonly firstByteMax: number
  /** Seconds of CPU the server spent for each 1e9 bytes. */
  readonly cpuPerGB: number
  readonly gbPerSecond: number
}

export async function compile(source: string, output: string): Promise<void> {
  await run('cc', ['-O2', '-o', output, source])
}

export interface DownloadOptions {
  readonly connections?: number
  readonly requests?: number
  /** After this no request is sent any more. */
  readonly seconds?: number
  /** After this many seconds all ends as it is; a response that has not ended is no error. */
  readonly limit?: number
  readonly signal?: AbortSignal
}

/** Downloads `path` `requests` times over `connections` and says what it cost the server. */
export async function download(
  sink: string,
  server: Server,
  path: string,
  options: DownloadOptions = {},
): Promise<Download> {
  const { connections = 1, seconds = 120, limit = seconds + 60, signal } = options
  const { requests = connections } = options
  const before = cpuSeconds(server.pid)
  const args = [server.host, server.port, path, connections, seconds, requests, limit].map(String)
  const { stdout } = await run(sink, args, { signal }).catch(printedWithErrors)
  const result = JSON.parse(stdout) as Omit<Download, 'cpuPerGB' | 'gbPerSecond'>
  const gigabytes = result.bytes / 1e9
  return {
    ...result,
    cpuPerGB: (cpuSeconds(server.pid) - before) / gigabytes,
    gbPerSecond: gigabytes / result.wall,
  }
}

// sink exits with 1 when a download failed, and its line says how many did.
function printedWithErrors(error: { code?: unknown; stdout?: string }): { stdout: string } {
  if (error.code === 1 && error.stdout) return { stdout: error.stdout }
  throw error
}

export interface Requests {
  readonly perSecond: number
  readonly cpuMicroseconds: number
  readonly p99: string
}

/** As many requests as the server answers in a few seconds over 50 connections. */
export async function hammer(server: Server, path: string, seconds = 5): Promise<Requests> {
  const before = cpuSeconds(server.pid)
  const url = `http://${server.host}:${server.port}${path}`
  const { stdout } = await run('wrk', [
    '-t1',
    '-c50',
    `-d${seconds}s`,
    '--latency',
    '-H',
    ACCEPT,
    url,
  ])
  const count = Number(/(\d+) requests in/.exec(stdout)?.[1])
  if (/Non-2xx/.test(stdout)) throw new Error(`${server.name}: ${stdout}`)
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    cpuMicroseconds: ((cpuSeconds(server.pid) - before) / count) * 1e6,
    p99: /99%\s+(\S+)/.exec(stdout)?.[1] ?? '?',
  }
}
