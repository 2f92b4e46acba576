// Holds every import of src/ to the arrows between the folders (src/README.md has the picture).
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { describe, expect, test } from 'vitest'

const SRC = join(import.meta.dirname, '../src')

/** The folders that each folder may import from, besides itself. Those above never import those below. */
const ARROWS: Record<string, readonly string[]> = {
  oci: [],
  http: [],
  files: [],
  process: [],
  'upstream/address': ['process'],
  'upstream/routing': ['oci', 'upstream/address'],
  'upstream/credentials': ['oci', 'http', 'files', 'upstream/routing'],
  'upstream/face': ['oci', 'upstream/credentials'],
  'upstream/network': [
    'http',
    'files',
    'process',
    'upstream/address',
    'upstream/routing',
    'upstream/face',
  ],
  'upstream/diagnosis': [
    'oci',
    'http',
    'process',
    'upstream/address',
    'upstream/credentials',
    'upstream/face',
    'upstream/network',
  ],
  'upstream/auth': [
    'oci',
    'http',
    'upstream/address',
    'upstream/routing',
    'upstream/credentials',
    'upstream/face',
    'upstream/network',
    'upstream/diagnosis',
  ],
  'upstream/health': ['http', 'upstream/routing', 'upstream/credentials', 'upstream/face'],
  'upstream/client': [
    'http',
    'process',
    'upstream/address',
    'upstream/routing',
    'upstream/credentials',
    'upstream/face',
    'upstream/network',
    'upstream/diagnosis',
    'upstream/auth',
    'upstream/health',
  ],
  'upstream/content': ['oci', 'http', 'upstream/face', 'upstream/network', 'upstream/client'],
  upstream: [
    'oci',
    'upstream/routing',
    'upstream/credentials',
    'upstream/face',
    'upstream/client',
    'upstream/content',
  ],
  'store/disk': [],
  'store/driver': ['store/disk'],
  'store/ingest': ['oci', 'http', 'store/disk'],
  'store/records': ['oci', 'store/disk', 'store/driver'],
  'store/blobs': ['oci', 'store/disk', 'store/driver', 'store/ingest', 'store/records'],
  store: ['oci', 'store/disk', 'store/driver', 'store/records', 'store/blobs'],
  'store/owner': ['store/disk'],
  'cache/flight': ['http', 'upstream/face'],
  'cache/policy': ['oci', 'http', 'process', 'upstream/face', 'store/records', 'cache/flight'],
  'cache/access': ['oci', 'upstream/face', 'store/records', 'cache/flight', 'cache/policy'],
  'cache/fetch': ['oci', 'http', 'process', 'upstream/face', 'store/ingest'],
  'cache/bypass': ['oci', 'http', 'upstream/face', 'store/ingest', 'cache/fetch'],
  'cache/download': [
    'oci',
    'http',
    'upstream/face',
    'store/ingest',
    'cache/policy',
    'cache/fetch',
    'cache/bypass',
  ],
  'cache/blob': [
    'oci',
    'http',
    'upstream/face',
    'store/disk',
    'store/driver',
    'store/records',
    'store/blobs',
    'cache/flight',
    'cache/policy',
    'cache/access',
    'cache/download',
  ],
  'cache/manifest': [
    'oci',
    'http',
    'upstream/face',
    'store/records',
    'cache/flight',
    'cache/policy',
    'cache/access',
  ],
  'cache/listing': [
    'oci',
    'http',
    'upstream/face',
    'store/records',
    'cache/flight',
    'cache/policy',
    'cache/access',
    'cache/manifest',
  ],
  cache: [
    'oci',
    'http',
    'upstream/face',
    'store/records',
    'cache/flight',
    'cache/policy',
    'cache/access',
    'cache/blob',
    'cache/manifest',
    'cache/listing',
  ],
  admin: [],
  config: ['oci', 'files', 'upstream/routing', 'upstream/credentials', 'upstream/network'],
  server: ['oci', 'http', 'files', 'cache/policy', 'cache'],
  observability: [
    'process',
    'upstream/face',
    'upstream/health',
    'store/disk',
    'store/driver',
    'cache/download',
    'cache',
    'admin',
    'server',
  ],
  cli: [
    'oci',
    'upstream/routing',
    'upstream/credentials',
    'cache/policy',
    'config',
    'observability',
  ],
  app: [
    'oci',
    'files',
    'upstream/address',
    'upstream/routing',
    'upstream/credentials',
    'upstream/face',
    'upstream/network',
    'upstream/health',
    'upstream/client',
    'upstream',
    'store',
    'store/owner',
    'cache/policy',
    'cache/download',
    'cache/blob',
    'cache',
    'admin',
    'config',
    'server',
    'observability',
    'cli',
  ],
  main: ['oci', 'upstream/network', 'config', 'cli', 'app'],
}

/** Files at the top of a room that its own folders may import: they import nothing of those. */
const FOUNDATIONS = [
  'cache/content.ts',
  'cache/observer.ts',
  'store/layout.ts',
  'upstream/deadline.ts',
]

/** Who may use a package or a built-in that reaches outside. */
const OUTSIDE: Record<string, readonly RegExp[]> = {
  fastify: [/^server\//, /^admin\//, /^observability\//],
  undici: [/^upstream\/network\//],
  pino: [/^observability\//],
  'prom-client': [/^observability\//],
  zod: [/^config\//],
  yaml: [/^config\//, /^cli\//],
  re2js: [/^upstream\/routing\/rewrite\.ts$/, /^config\/rewrite-language\.ts$/],
  socks: [/^upstream\/network\/proxy\//],
  tldts: [/^upstream\/auth\//],
  'node:fs': [/^store\//, /^config\//, /^cli\//, /^files\//, /^server\/tls/, /^main\.ts$/],
  'node:fs/promises': [
    /^store\//,
    /^config\//,
    /^cli\//,
    /^files\//,
    /^server\/tls/,
    /^upstream\/address\/resolver\.ts$/,
  ],
  'node:http': [/^server\//, /^admin\//],
  'node:https': [/^server\//],
  'node:child_process': [/^upstream\/credentials\/helper\.ts$/],
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) =>
  file.endsWith('.ts'),
)

const IMPORT =
  /^(?:import|export)\s(?:[^'"]*?\sfrom\s)?['"]([^'"]+)['"]|\bimport\(['"]([^'"]+)['"]\)/gm

function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, file), 'utf8')
  return [...text.matchAll(IMPORT)].map((match) => match[1] ?? match[2] ?? '')
}

/** The files of src/ that a file imports, types included. */
function neighboursOf(file: string): string[] {
  return importsOf(file)
    .filter((target) => target.startsWith('.') && target.endsWith('.ts'))
    .map((target) => normalize(relative(SRC, join(SRC, dirname(file), target))))
}

/** `cache/fetch`, `cache` for a file at the top of that room, `main` for one at the top of src/. */
function folderOf(file: string): string {
  return dirname(file) === '.' ? 'main' : dirname(file).split('/').slice(0, 2).join('/')
}

describe('the imports', () => {
  test('are found by this test at all', () => {
    expect(files.length).toBeGreaterThan(50)
    expect(importsOf('main.ts').length).toBeGreaterThan(3)
  })

  test.each(files)('of %s follow the arrows between the folders', (file) => {
    const folder = folderOf(file)
    for (const target of neighboursOf(file)) {
      const to = folderOf(target)
      if (to === folder || (FOUNDATIONS.includes(target) && folder.startsWith(`${to}/`))) continue
      expect(ARROWS[folder], `${file} imports ${target}`).toContain(to)
    }
  })

  test('use every arrow that the table allows', () => {
    const used = new Set(
      files.flatMap((file) =>
        neighboursOf(file).map((to) => `${folderOf(file)} → ${folderOf(to)}`),
      ),
    )
    const allowed = Object.entries(ARROWS).flatMap(([from, to]) =>
      to.map((each) => `${from} → ${each}`),
    )
    expect(allowed.filter((arrow) => !used.has(arrow))).toEqual([])
  })

  test('lead down alone: no folder is reached again from where its arrows lead', () => {
    const order = Object.keys(ARROWS)
    for (const [from, targets] of Object.entries(ARROWS)) {
      for (const to of targets) {
        expect(order.indexOf(to), `${from} imports ${to}`).toBeLessThan(order.indexOf(from))
      }
    }
  })

  test('of foundations lead to no folder of their own room', () => {
    for (const file of FOUNDATIONS) {
      const room = folderOf(file)
      expect(neighboursOf(file).filter((to) => to.startsWith(`${room}/`))).toEqual([])
    }
  })

  test.each(files)('of %s reach outside only where that is its room', (file) => {
    for (const target of importsOf(file)) {
      const allowed = OUTSIDE[target]
      if (allowed) {
        const fine = allowed.some((pattern) => pattern.test(file))
        expect(fine, `${file} imports ${target}`).toBe(true)
      }
    }
  })
})
