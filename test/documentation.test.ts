import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readConfigFile } from '../src/config/config-file.ts'
import { FLAG_NAMES, VARIABLES } from '../src/config/env.ts'
import { configJsonSchema, type JsonSchema } from '../src/config/json-schema.ts'
import { readRegistriesFile } from '../src/config/registries-file.ts'
import { Metrics } from '../src/observability/metrics.ts'
import { COMMANDS } from '../src/cli/usage.ts'

const ROOT = join(import.meta.dirname, '..')
const PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  'docs/configuration.md',
  'src/README.md',
  'helm/chandlery/README.md',
]

const page = (name: string) => readFileSync(join(ROOT, name), 'utf8')
const README = page('README.md')
const CONFIGURATION = page('docs/configuration.md')

/** Rows of the page's tables as cells; headings and rules included. */
function rows(text: string): string[][] {
  const lines = text.split('\n').filter((line) => line.startsWith('|'))
  return lines.map((line) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  )
}

/** What stands in backticks, blocks of code left out. */
function codes(text: string): string[] {
  const prose = text.replaceAll(/^```.*?^```$/gms, '')
  return [...prose.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code)
}

interface Key {
  readonly path: string
  readonly fallback: unknown
}

/** Every key below the node, in the words of the reference; a secret's env and file left out. */
function keysBelow(node: JsonSchema, path: string): Key[] {
  return alternatives(node).flatMap(({ properties = {}, additionalProperties, items }) => [
    ...Object.entries(properties)
      .filter(([name]) => name !== 'env' && name !== 'file')
      .flatMap(([name, next]) => keyAndBelow(next, path === '' ? name : `${path}.${name}`)),
    ...(additionalProperties ? keysBelow(additionalProperties, `${path}.${entryOf(path)}`) : []),
    ...(items ? keysBelow(items, `${path}[]`) : []),
  ])
}

function alternatives(node: JsonSchema): JsonSchema[] {
  return node.anyOf ? node.anyOf.flatMap(alternatives) : [node]
}

function keyAndBelow(node: JsonSchema, path: string): Key[] {
  return [
    { path, fallback: 'default' in node ? node.default : undefined },
    ...keysBelow(node, path),
  ]
}

function entryOf(map: string): string {
  return map === 'mirrors' ? '<registry>' : '<host>'
}

describe('the configuration reference', () => {
  const documented = new Map(
    rows(CONFIGURATION)
      .filter(([, type, fallback]) => type && fallback)
      .map(([key = '', , fallback = '']) => [codes(key)[0], fallback]),
  )

  const keys = keysBelow(configJsonSchema(), '')
  const holdsKeys = (path: string) => keys.some((key) => key.path.startsWith(`${path}.`))
  // The six settings of a rule have one row together; a list of credentials has those of one.
  const together = /^freshness\.rules\[\]\.(?!match)|\.auth\[\]\./
  const settings = keys.filter(({ path }) => !holdsKeys(path) && !together.test(path))
  const withDefault = settings.filter(({ fallback }) =>
    ['string', 'boolean'].includes(typeof fallback),
  )

  test('is compared with a schema that has keys and defaults', () => {
    expect(settings.length).toBeGreaterThan(25)
    expect(withDefault.length).toBeGreaterThan(10)
  })

  test.each(settings)('has a row for $path', ({ path }) => {
    expect([...documented.keys()]).toContain(path)
  })

  test.each(withDefault)('gives the default of $path', ({ path, fallback }) => {
    expect(documented.get(path)).toBe(`\`${String(fallback)}\``)
  })

  test('has no row for a key that does not exist', () => {
    const known = new Set(keys.map(({ path }) => path))
    const named = [...documented.keys()].filter((key) => key && !/^CHANDLERY_|^--/.test(key))
    expect(named.filter((key) => key && !known.has(key))).toEqual([])
  })

  test.each(Object.keys(VARIABLES) as (keyof typeof VARIABLES)[])(
    'names the variable and the flag of %s',
    (key) => {
      const row = rows(CONFIGURATION).find(([cell]) => cell === `\`${VARIABLES[key]}\``)
      expect(row?.[1]).toContain(FLAG_NAMES[key])
    },
  )
})

describe('the examples in the documentation', () => {
  // Those of the chart are values: test/chart/ looks at them.
  const pages = PAGES.filter((name) => !name.startsWith('helm/'))
  const blocks = pages.flatMap((name) =>
    [...page(name).matchAll(/```yaml\n(.*?)```/gs)].map(([, text = '']): [string, string] => [
      name,
      text,
    ]),
  )

  test('are found by this test', () => {
    expect(blocks.length).toBeGreaterThan(3)
  })

  test.each(blocks)('of %s are configurations without a problem', (name, text) => {
    expect(readConfigFile(name, text).problems).toEqual([])
  })

  test("for K3s's nodes are accepted whole by K3s", () => {
    const [, text] = blocks.find(([, block]) => block.includes('http://cache:5000')) ?? []
    const file = readRegistriesFile('registries.yaml', text ?? '')
    expect(file.problems).toEqual([])
    expect(file.mirrors.map(({ endpoints }) => endpoints.map(({ written }) => written))).toEqual(
      file.mirrors.map(() => ['http://cache:5000']),
    )
  })
})

describe('the README', () => {
  test('names every metric with its labels, and no other', async () => {
    const described = await new Metrics({
      version: '1',
      processMetrics: false,
      storeUsage: () => Promise.resolve({ blobs: 0, bytes: 0 }),
      upstreams: { endpoints: () => [], rateLimits: () => [] },
    }).describe()
    const real = described.map((line) => /^(\w+)\{(.*?)\}/.exec(line)?.slice(1).join(' ') ?? '')
    expect(metricsIn(README).toSorted()).toEqual(real.toSorted())
  })

  test.each(Object.keys(COMMANDS))('names the command %s', (command) => {
    expect(README).toContain(`\`chandlery ${command}`)
  })

  test('has a remedy for every reason of a failure', () => {
    const source = page('src/upstream/face/failure.ts')
    const table = /const KIND_OF = \{(.*?)\}/s.exec(source)?.[1] ?? ''
    const reasons = [...table.matchAll(/^\s+'?([a-z-]+)'?: '/gm)].map(([, reason]) => reason)
    const start = rows(README).findIndex(([cell]) => cell === 'reason')
    const listed = rows(README)
      .slice(start)
      .flatMap(([cell = '']) => codes(cell))
    expect(reasons.length).toBeGreaterThan(20)
    expect(listed).toEqual(expect.arrayContaining(reasons))
  })
})

/** "name label,label" of every row of the table; `_hits_total` continues the name before it. */
function metricsIn(text: string): string[] {
  return rows(text).flatMap(([names = '', labels = '']) => {
    const shown = codes(names).filter((name) => /^(chandlery|registry_proxy)?_/.test(name))
    return shown
      .map((name) => (name.startsWith('_') ? `registry_proxy${name}` : name))
      .map((name) => `${name} ${codes(labels).join(',')}`)
  })
}

describe('the links in the documentation', () => {
  const links = PAGES.flatMap((name) =>
    [...page(name).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)].map(
      ([, file = '', anchor]): [string, string, string | undefined] => [name, file, anchor],
    ),
  )

  test.each(links)('of %s to %s#%s lead to something that exists', (name, file, anchor) => {
    const target = file === '' ? name : join(dirname(name), file)
    expect(existsSync(join(ROOT, target)), target).toBe(true)
    if (anchor) expect(headingsOf(page(target))).toContain(anchor)
  })

  const files = codes(page('src/README.md')).filter((code) => /^([\w-]+\/)+[\w-]+\.ts$/.test(code))

  test('are found by this test', () => {
    expect(links.length).toBeGreaterThan(10)
    expect(files.length).toBeGreaterThan(30)
  })

  test.each(files)('from the map lead to %s, which exists', (file) => {
    expect(existsSync(join(ROOT, 'src', file)), file).toBe(true)
  })
})

/** Anchors as GitHub makes them of headings. */
function headingsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}
