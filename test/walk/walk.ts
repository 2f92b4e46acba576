// `npm run walk`: how many files and functions of src/ a request passes through, and how the code is
// spread over folders. V8's precise coverage of one server in this process; the upstream and the
// clients run in it too, but live in test/ and are not counted.
import { readdirSync, readFileSync } from 'node:fs'
import { Session } from 'node:inspector/promises'
import { dirname, join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { mirrorOf, startChandlery } from '../support/chandlery.ts'
import { failFiles } from '../support/failing-files.ts'
import { startRegistry } from '../support/registry.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'

const MIB = 1024 * 1024
const REGISTRY = 'registry.test'
const SRC = join(import.meta.dirname, '../../src')

interface Walk {
  readonly name: string
  /** How many clients read the blob at once. */
  readonly clients: number
  /** Writing to the disk fails. */
  readonly diskFull: boolean
}

const WALKS: readonly Walk[] = [
  { name: 'a cold blob, 50 clients', clients: 50, diskFull: false },
  { name: 'a full disk, 20 clients', clients: 20, diskFull: true },
]

interface Passed {
  readonly files: ReadonlyMap<string, number>
  readonly functions: number
}

/** Runs one scenario and counts what of src/ was executed while it ran. */
async function walk({ clients, diskFull }: Walk): Promise<Passed> {
  await using directory = await temporaryDirectory()
  await using upstream = await startRegistry()
  await using chandlery = await startChandlery(directory.path, mirrorOf(REGISTRY, upstream.url))
  const { digest } = upstream.addSyntheticBlob(8 * MIB, 'walk')
  upstream.fault({ match: { kind: 'blob', method: 'GET' }, drip: { bytes: MIB, everyMs: 20 } })
  const session = new Session()
  session.connect()
  await session.post('Profiler.enable')
  await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false })
  await session.post('Profiler.takePreciseCoverage') // counts from here
  const url = `${chandlery.url}/v2/team/app/blobs/${digest}?ns=${REGISTRY}`
  const pull = async () => {
    const response = await fetch(url)
    const { byteLength } = await response.arrayBuffer()
    if (byteLength !== 8 * MIB) throw new Error(`got ${byteLength} bytes of a blob of ${8 * MIB}`)
  }
  {
    using _full = diskFull ? await failFiles('writev', 'ENOSPC') : undefined
    await Promise.all(Array.from({ length: clients }, pull))
    await sleep(500) // keeping, access lines and metrics come after the last byte
  }
  const { result } = await session.post('Profiler.takePreciseCoverage')
  session.disconnect()
  const files = new Map<string, number>()
  let functions = 0
  for (const script of result) {
    if (!script.url.startsWith('file:')) continue
    const file = relative(SRC, fileURLToPath(script.url))
    if (file.startsWith('..')) continue
    // A module's own top level has no name and runs only at its import.
    const run = script.functions.filter(({ ranges }) => (ranges[0]?.count ?? 0) > 0).length
    if (run === 0) continue
    files.set(file, run)
    functions += run
  }
  return { files, functions }
}

/** Files, lines, median and longest file per folder of src/. */
function folders(): string[] {
  const byFolder = new Map<string, { file: string; lines: number }[]>()
  for (const file of readdirSync(SRC, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue
    const lines = readFileSync(join(SRC, file), 'utf8').split('\n').length - 1
    const folder = dirname(file)
    byFolder.set(folder, [...(byFolder.get(folder) ?? []), { file, lines }])
  }
  const all = [...byFolder.values()].flat()
  return [
    row('folder', 'files', 'lines', 'median', 'longest'),
    ...[...byFolder].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, of]) => line(name, of)),
    line('all', all),
  ]
}

function line(name: string, files: readonly { file: string; lines: number }[]): string {
  const sorted = files.toSorted((a, b) => a.lines - b.lines)
  const total = files.reduce((sum, { lines }) => sum + lines, 0)
  const longest = sorted.at(-1)
  const median = sorted[Math.floor(sorted.length / 2)]?.lines
  return row(name, files.length, total, median, `${longest?.lines} ${longest?.file}`)
}

function row(name: string, ...cells: unknown[]): string {
  return `${name.padEnd(24)}${cells.map((cell) => String(cell).padStart(8)).join('')}`
}

for (const each of WALKS) {
  const { files, functions } = await walk(each)
  process.stdout.write(`${each.name}: ${files.size} files, ${functions} functions\n`)
  if (process.argv.includes('--files')) {
    for (const [file, run] of files) process.stdout.write(`  ${file} ${run}\n`)
  }
}
process.stdout.write(`\n${folders().join('\n')}\n`)
