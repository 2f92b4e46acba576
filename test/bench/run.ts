// npm run bench [-- warm cold herd manifests slow] [--json]: what Chandlery costs beside nginx and
// docker-registry, in one run on one machine. Only the ratios mean anything: machines are noisy.
// npm run bench -- wan [--quick] [--only=LINK]: only when named; a far upstream, see wan.ts.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { blob, MIB } from './blob.ts'
import { median, rounded } from './figures.ts'
import { compile, download, hammer } from './load.ts'
import { Bench } from './peers.ts'
import { SlowReaders } from './slow-readers.ts'
import { isInstalled, missingPrograms, peakMemory, type Server } from './process.ts'
import type { Row, Setting } from './setting.ts'
import { missingForWan, wan } from './wan.ts'

const NAMESPACE = 'chandlery-bench'

const SCENARIOS = { warm, cold, herd, manifests, slow }
const ONLY_WHEN_NAMED = { wan }

/** Held blobs of three sizes: the server's CPU seconds for each 1e9 bytes. */
async function warm({ bench, sink, origin, hasRegistry, report }: Setting): Promise<void> {
  const servers = [await bench.nginxFiles(), await bench.chandlery(origin)]
  if (hasRegistry) servers.push(await bench.registryProxy(origin))
  await using _ = disposing(servers)
  const shapes = [
    { size: 512, connections: 1, requests: 6 },
    { size: 512, connections: 8, requests: 16 },
    { size: 20, connections: 8, requests: 200 },
    { size: 20, connections: 50, requests: 200 },
    { size: 1, connections: 8, requests: 2000 },
    { size: 1, connections: 50, requests: 2000 },
  ]
  const rows: Row[] = servers.map((server) => ({ server: server.name }))
  for (const { size, connections, requests } of shapes) {
    const path = blob(bench, size)
    for (const server of servers) await download(sink, server, path)
    const results = servers.map(() => [] as number[])
    for (let round = 0; round < 3; round++) {
      for (const [index, server] of servers.entries()) {
        const result = await download(sink, server, path, { connections, requests })
        results[index]!.push(result.cpuPerGB)
      }
    }
    for (const [index, row] of rows.entries())
      row[`${size} MiB c${connections}`] = rounded(median(results[index]!))
  }
  report('Held blobs: CPU-seconds per GB', withRatios(rows, 'nginx, sendfile'))
}

/** One client, nothing held: the whole way from the upstream to the disk and the client. */
async function cold(setting: Setting): Promise<void> {
  const { bench, sink, origin, report } = setting
  const rows: Row[] = []
  const direct = await download(sink, origin, blob(bench, 512))
  for (const start of caches(setting)) {
    const samples: { cpu: number; speed: number; first: number; memory: number }[] = []
    let name = ''
    for (let round = 0; round < 3; round++) {
      await using server = await start()
      name = server.name
      const got = await download(sink, server, blob(bench, 512))
      const memory = peakMemory(server.pid)
      samples.push({ cpu: got.cpuPerGB, speed: got.gbPerSecond, first: got.firstByte50, memory })
    }
    rows.push({
      server: name,
      'CPU-s/GB': rounded(median(samples.map((s) => s.cpu))),
      'GB/s': rounded(median(samples.map((s) => s.speed))),
      'first byte ms': rounded(median(samples.map((s) => s.first))),
      'upstream first byte ms': rounded(direct.firstByte50),
      'peak MiB': Math.round(Math.max(...samples.map((s) => s.memory))),
    })
  }
  report('Cold blob of 512 MiB, one client', rows)
}

/** 50 clients at once on one cold blob. */
async function herd(setting: Setting): Promise<void> {
  const { bench, sink, origin, report } = setting
  const rows: Row[] = []
  for (const start of caches(setting)) {
    await using server = await start()
    writeFileSync(origin.log, '')
    const got = await download(sink, server, blob(bench, 200), { connections: 50 })
    const sent = readFileSync(origin.log, 'utf8')
      .split('\n')
      .filter((l) => l.startsWith('GET'))
    const bytes = sent.reduce((sum, line) => sum + Number(line.split(' ')[2]), 0)
    rows.push({
      server: server.name,
      'upstream GETs': sent.length,
      'upstream bytes / blob': rounded(bytes / (200 * MIB)),
      seconds: rounded(got.wall),
      'CPU-s/GB': rounded(got.cpuPerGB),
      'first byte ms': rounded(got.firstByteMax),
      errors: got.errors,
      'peak MiB': Math.round(peakMemory(server.pid)),
    })
  }
  report('50 clients at once on one cold blob of 200 MiB', rows)
}

/** 1,000 readers that hardly read and 8 that read at once, all of one blob that is still arriving. */
async function slow({ bench, sink, origin, report }: Setting): Promise<void> {
  const path = blob(bench, 512)
  await using server = await bench.chandlery(origin)
  const alone = await download(sink, server, path, { connections: 8, requests: 16 })
  await using crowded = await bench.chandlery(origin)
  await using crowd = await SlowReaders.connect(crowded.port, path, 1000)
  const among = await download(sink, crowded, path, { connections: 8, requests: 16 })
  report('8 fast readers of 512 MiB, alone and among 1,000 slow ones', [
    {
      readers: 'alone',
      'GB/s': rounded(alone.gbPerSecond),
      'peak MiB': Math.round(peakMemory(server.pid)),
    },
    {
      readers: 'among 1,000 slow',
      'GB/s': rounded(among.gbPerSecond),
      'peak MiB': Math.round(peakMemory(crowded.pid)),
      'slow ones still served': crowd.open,
      'slow bytes each': Math.round(crowd.bytes / 1000),
    },
  ])
}

/** A 2 KiB manifest by tag, fresh, 50 connections. */
async function manifests({ bench, origin, hasRegistry, report }: Setting): Promise<void> {
  if (!isInstalled('wrk')) return report('Manifests: wrk is not installed', [])
  const servers = [await bench.nginxFiles()]
  const quiet = await bench.chandlery(origin, 'warn')
  servers.push({ ...quiet, name: 'Chandlery, no access log' })
  servers.push({ ...(await bench.chandlery(origin)), name: 'Chandlery, access log' })
  if (hasRegistry) servers.push(await bench.registryProxy(origin))
  await using _ = disposing(servers)
  const rows: Row[] = []
  for (const server of servers) {
    await hammer(server, '/v2/bench/manifests/latest', 1)
    const got = await hammer(server, '/v2/bench/manifests/latest')
    rows.push({
      server: server.name,
      'requests/s': Math.round(got.perSecond),
      'CPU µs each': rounded(got.cpuMicroseconds),
      p99: got.p99,
    })
  }
  report('Manifest by tag, 50 connections', rows)
}

function caches({ bench, origin, hasRegistry }: Setting): (() => Promise<Server>)[] {
  const starts = [() => bench.chandlery(origin), () => bench.nginxCache(origin)]
  if (hasRegistry) starts.push(() => bench.registryProxy(origin))
  return starts
}

function disposing(servers: readonly Server[]): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      for (const server of servers) await server[Symbol.asyncDispose]()
    },
  }
}

function writeManifest(directory: string): string {
  const empty = { mediaType: 'application/vnd.oci.empty.v1+json', size: 2 }
  const config = { ...empty, digest: `sha256:${createHash('sha256').update('{}').digest('hex')}` }
  const manifest = { schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json' }
  const annotations = { 'org.example.padding': 'x'.repeat(1700) }
  const bytes = Buffer.from(JSON.stringify({ ...manifest, config, layers: [], annotations }))
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  for (const name of ['latest', digest])
    writeFileSync(join(directory, 'origin/v2/bench/manifests', name), bytes)
  return digest
}

function withRatios(rows: Row[], base: string): Row[] {
  const floor = rows.find((row) => row['server'] === base)
  return rows.map((row) =>
    Object.fromEntries(
      Object.entries(row).map(([key, value]) => {
        const against = floor?.[key]
        if (typeof value !== 'number' || typeof against !== 'number') return [key, value]
        return [key, `${value} (${(value / against).toFixed(2)}x)`]
      }),
    ),
  )
}

// bbr paces on loopback, which hides what a server costs: measure with cubic, as most hosts have it.
async function runInNamespace(): Promise<number | undefined> {
  if (process.env['CHANDLERY_BENCH_NAMESPACE'] || process.getuid?.() !== 0 || !isInstalled('ip'))
    return undefined
  try {
    execFileSync('sysctl', ['-qw', 'net.ipv4.tcp_allowed_congestion_control=reno bbr cubic'])
  } catch {
    // The kernel may not have them all; the namespace's default then stays what it is.
  }
  if (spawnSync('ip', ['netns', 'add', NAMESPACE]).status !== 0) return undefined
  try {
    execFileSync('ip', ['-n', NAMESPACE, 'link', 'set', 'lo', 'up'])
    const cubic = ['sysctl', '-qw', 'net.ipv4.tcp_congestion_control=cubic']
    spawnSync('ip', ['netns', 'exec', NAMESPACE, ...cubic])
    const self = [process.execPath, ...process.argv.slice(1)]
    const env = { ...process.env, CHANDLERY_BENCH_NAMESPACE: NAMESPACE }
    const child = spawn('ip', ['netns', 'exec', NAMESPACE, ...self], { stdio: 'inherit', env })
    // The terminal sends SIGINT to both: this one stays to delete the namespace.
    process.on('SIGINT', () => {})
    process.on('SIGTERM', () => child.kill('SIGTERM'))
    const [code] = (await once(child, 'exit')) as [number | null]
    return code ?? 1
  } finally {
    execFileSync('ip', ['netns', 'delete', NAMESPACE])
  }
}

async function main(): Promise<number> {
  const within = await runInNamespace()
  if (within !== undefined) return within
  const json = process.argv.includes('--json')
  const asked = process.argv.slice(2).filter((name) => !name.startsWith('--'))
  const scenarios = { ...SCENARIOS, ...ONLY_WHEN_NAMED }
  const unknown = asked.filter((name) => !(name in scenarios))
  if (unknown.length > 0) {
    const known = Object.keys(scenarios).join(', ')
    process.stderr.write(`no such benchmark: ${unknown.join(', ')}; there are ${known}\n`)
    return 2
  }
  const missing = asked.includes('wan') ? missingForWan() : missingPrograms('cc', 'nginx')
  if (missing.length > 0) {
    process.stderr.write(`the benchmark needs ${missing.join(' and ')}\n`)
    return 2
  }
  const directory = mkdtempSync(join(tmpdir(), 'chandlery-bench-'))
  try {
    await measure(directory, asked, json)
    return 0
  } finally {
    if (existsSync(directory)) rmSync(directory, { recursive: true, force: true })
  }
}

async function measure(directory: string, asked: string[], json: boolean): Promise<void> {
  for (const kind of ['blobs', 'manifests'])
    mkdirSync(join(directory, 'origin/v2/bench', kind), { recursive: true })
  const sink = join(directory, 'sink')
  await compile(join(import.meta.dirname, 'sink.c'), sink)
  const bench = new Bench(directory)
  const manifestDigest = writeManifest(directory)
  await using origin = await bench.origin(manifestDigest)
  const report = (title: string, rows: Row[]) => {
    if (json) process.stdout.write(`${JSON.stringify({ title, rows })}\n`)
    else process.stdout.write(`\n${title}\n${table(rows)}\n`)
  }
  const hasRegistry = isInstalled('docker-registry')
  if (!hasRegistry) process.stderr.write('docker-registry is not installed: left out\n')
  const quick = process.argv.includes('--quick')
  const only = process.argv.find((each) => each.startsWith('--only='))?.slice(7) ?? ''
  const scenarios = asked.length === 0 ? SCENARIOS : { ...SCENARIOS, ...ONLY_WHEN_NAMED }
  for (const [name, scenario] of Object.entries(scenarios))
    if (asked.length === 0 || asked.includes(name))
      await scenario({ bench, sink, origin, manifestDigest, hasRegistry, quick, only, report })
}

function table(rows: readonly Row[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const cells = [columns, ...rows.map((row) => columns.map((column) => String(row[column] ?? '')))]
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => line[index]!.length)))
  return cells
    .map((line) =>
      line
        .map((cell, index) => cell.padEnd(widths[index]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

process.exitCode = await main()
