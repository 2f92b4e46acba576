import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { describe, expect, test } from 'vitest'

const SRC = join(import.meta.dirname, '../src')

/** Which rooms a room may import, besides itself (src/README.md has the picture). */
const ARROWS: Record<string, readonly string[]> = {
  oci: [],
  http: [],
  upstream: ['oci', 'http'],
  store: ['oci', 'http'],
  cache: ['upstream', 'store', 'oci', 'http'],
  server: ['cache', 'upstream', 'oci', 'http'],
  admin: ['oci', 'http'],
  observability: ['server', 'admin', 'cache', 'upstream', 'store', 'oci', 'http'],
  config: ['upstream', 'oci', 'http'],
  cli: ['config', 'cache', 'upstream', 'store', 'server', 'admin', 'observability', 'oci', 'http'],
}

/** Who may use a package or a built-in that reaches outside. */
const OUTSIDE: Record<string, readonly RegExp[]> = {
  fastify: [/^server\//, /^admin\//, /^observability\//],
  undici: [/^upstream\//],
  pino: [/^observability\//],
  'prom-client': [/^observability\//],
  zod: [/^config\//],
  yaml: [/^config\//, /^cli\//],
  re2js: [/^upstream\/rewrite(-language)?\.ts$/],
  tldts: [/^upstream\//],
  'node:fs': [/^store\//, /^config\//, /^cli\//, /^upstream\//, /^server\/tls/, /^main\.ts$/],
  'node:fs/promises': [/^store\//, /^config\//, /^cli\//, /^upstream\//, /^server\/tls/],
  'node:http': [/^server\//, /^admin\//],
  'node:https': [/^server\//],
  'node:child_process': [/^upstream\/credential-helper\.ts$/],
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

function roomOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : 'main'
}

describe('the imports', () => {
  test('are found by this test at all', () => {
    expect(files.length).toBeGreaterThan(50)
    expect(importsOf('main.ts').length).toBeGreaterThan(3)
  })

  test.each(files)('of %s follow the arrows between the rooms', (file) => {
    const room = roomOf(file)
    for (const target of importsOf(file)) {
      if (!target.startsWith('.')) continue
      const to = roomOf(normalize(relative(SRC, join(SRC, dirname(file), target))))
      if (room === 'main' || to === room) continue
      expect(ARROWS[room], `${file} imports ${target}`).toContain(to)
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
