// Checks objects against their kinds, with the types and validators that kubernetes-models generates
// from the schemas of Kubernetes and the CRDs. The validators check values; the compiler finds unknown
// fields, which the validators accept.
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { KubernetesObject } from './rendered.ts'

const PACKAGES: Readonly<Record<string, string>> = {
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator/',
  'cert-manager.io': '@kubernetes-models/cert-manager/',
}

function moduleOf({ apiVersion, kind }: KubernetesObject): string {
  const [group = ''] = apiVersion.split('/')
  return `${PACKAGES[group] ?? 'kubernetes-models/'}${apiVersion}/${kind}`
}

interface ModelModule {
  readonly [kind: string]: new (object: object) => { validate(): void }
}

/** Returns what the kind's validator reports, or undefined if the object is valid. */
export async function valueProblem(object: KubernetesObject): Promise<string | undefined> {
  const models = (await import(moduleOf(object))) as ModelModule
  const Model = models[object.kind]
  if (!Model) throw new Error(`${moduleOf(object)} has no ${object.kind}`)
  try {
    new Model(object).validate()
    return undefined
  } catch (error) {
    return `${object.kind} ${object.metadata.name}: ${String(error)}`
  }
}

/** Returns the compiler's errors, one per line: unknown and missing fields, wrong types. */
export async function fieldProblems(objects: readonly KubernetesObject[]): Promise<string[]> {
  await mkdir('.cache', { recursive: true })
  const directory = await mkdtemp(resolve('.cache', 'kinds-'))
  try {
    await writeFile(join(directory, 'objects.ts'), objects.map(declaration).join('\n'))
    await writeFile(join(directory, 'tsconfig.json'), JSON.stringify(TSCONFIG))
    return await compile(directory)
  } finally {
    await rm(directory, { recursive: true })
  }
}

const TSCONFIG = {
  compilerOptions: {
    target: 'ESNext',
    module: 'NodeNext',
    strict: true,
    noEmit: true,
    types: [],
    skipLibCheck: true,
    pretty: false,
  },
  files: ['objects.ts'],
}

/** Writes the objects as literals, because the compiler reports unknown fields only in those. */
function declaration(object: KubernetesObject, index: number): string {
  const type = `Type${index}`
  return [
    `import type { I${object.kind} as ${type} } from '${moduleOf(object)}'`,
    `export const object${index}: ${type} = ${JSON.stringify(object)}`,
  ].join('\n')
}

async function compile(directory: string): Promise<string[]> {
  try {
    await promisify(execFile)('node_modules/.bin/tsc', ['-p', directory])
    return []
  } catch (error) {
    const { stdout } = error as { stdout?: string }
    if (!stdout) throw error
    return stdout.split('\n').filter((line) => line.includes('error'))
  }
}
