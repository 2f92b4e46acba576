// Whatever values are combined, what is rendered can be applied: by kubectl and Flux too, which
// refuse a key that is written twice and read names by YAML's rules.
import { join } from 'node:path'
import { writeFile } from 'node:fs/promises'
import * as fc from 'fast-check'
import { parseAllDocuments } from 'yaml'
import { fieldProblems, valueProblem } from '../../chart/kinds.ts'
import type { PodSpec } from '../../chart/pod.ts'
import type { KubernetesObject } from '../../chart/rendered.ts'
import type { Report } from '../report.ts'
import type { Helm } from './helm.ts'
import { type Installation, installation } from './random-values.ts'

const RUNS = Number(process.env['CHART_RUNS'] ?? 40)

export async function checkRandomValues(
  report: Report,
  helm: Helm,
  directory: string,
): Promise<void> {
  const all: KubernetesObject[] = []
  await report.check(`${RUNS} random combinations of values render, and fit together`, () =>
    fc.assert(
      fc.asyncProperty(installation, async (installed) => {
        const objects = await render(installed)
        all.push(...objects)
        const problems = await Promise.all(objects.map(valueProblem))
        const found = [...problems.filter((each) => each !== undefined), ...misfits(objects)]
        if (found.length > 0) throw new Error(found.join('\n'))
      }),
      { numRuns: RUNS, includeErrorInReport: true },
    ),
  )
  await report.check(
    'and none of their objects has a field that its kind does not know',
    async () => {
      const problems = await fieldProblems(all)
      if (problems.length > 0) throw new Error(problems.join('\n'))
    },
  )

  async function render({ release, namespace, values }: Installation): Promise<KubernetesObject[]> {
    const file = join(directory, 'random.yaml')
    await writeFile(file, JSON.stringify(values))
    return parse(await helm.templateAs(release, namespace, ['--values', file]))
  }
}

/** As Kubernetes reads YAML: by version 1.1, each key once. */
function parse(text: string): KubernetesObject[] {
  return parseAllDocuments(text, { version: '1.1' }).flatMap((document) => {
    const [error] = document.errors
    if (error) throw error
    const object = document.toJS() as KubernetesObject | null
    return object === null ? [] : [object]
  })
}

/** What Kubernetes would refuse, or take and never connect. */
function misfits(objects: readonly KubernetesObject[]): string[] {
  const set = objects.find(({ kind }) => kind === 'StatefulSet')
  if (!set) return ['there is no StatefulSet']
  return [
    ...objects.flatMap((object) => holes(object, object.kind)),
    ...objects.flatMap(labelProblems),
    ...repeated(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`)),
    ...podProblems(set['spec'] as SetSpec),
    ...objects.flatMap((object) => unselected(object, set['spec'] as SetSpec)),
  ]
}

interface SetSpec {
  readonly template: {
    readonly metadata: { readonly labels: Record<string, string> }
    readonly spec: PodSpec
  }
  readonly volumeClaimTemplates?: readonly { readonly metadata: { readonly name: string } }[]
}

/** Values that are null, and maps that are empty where that means nothing. */
function holes(value: unknown, path: string): string[] {
  if (value === null) return [`${path} is null`]
  if (typeof value !== 'object') return []
  const entries = Object.entries(value)
  const mayBeEmpty = /(emptyDir|Selector|matchLabels|nodeAffinity|\.egress|\.\d+)$/.test(path)
  if (entries.length === 0 && !mayBeEmpty) return [`${path} is empty`]
  return entries.flatMap(([key, each]) => holes(each, `${path}.${key}`))
}

function labelProblems({ kind, metadata }: KubernetesObject): string[] {
  const wrong = Object.entries(metadata.labels ?? {}).filter(([, text]) => {
    return typeof text !== 'string' || !/^([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?$/.test(text)
  })
  const label = wrong.map(([key, text]) => `${kind}: the label ${key} is ${text}`)
  return metadata.name.length > 63 ? [...label, `${kind}: ${metadata.name} is long`] : label
}

function podProblems({ template, volumeClaimTemplates = [] }: SetSpec): string[] {
  const { containers, volumes = [] } = template.spec
  const held = [...volumes, ...volumeClaimTemplates.map(({ metadata }) => metadata)]
  return containers.flatMap(({ env = [], ports = [], volumeMounts = [] }) => [
    ...repeated(names(env)),
    ...repeated(names(ports)),
    ...repeated(ports.map(({ containerPort }) => String(containerPort))),
    ...repeated(names(held)),
    ...repeated(volumeMounts.map(({ mountPath }) => mountPath)),
    ...names(volumeMounts).filter((name) => !names(held).includes(name)),
  ])
}

/** Those that select the servers' pods, and do not. */
function unselected({ kind, metadata, spec }: KubernetesObject, set: SetSpec): string[] {
  const { selector, podSelector } = (spec ?? {}) as Record<'selector' | 'podSelector', Selector>
  const found = podSelector ?? selector
  if (!found || kind === 'ServiceMonitor') return []
  const wanted = Object.entries(kind === 'Service' ? found : (found.matchLabels ?? {}))
  const { labels } = set.template.metadata
  return wanted
    .filter(([key, text]) => labels[key] !== text)
    .map(([key]) => `${kind} ${metadata.name} selects another ${key} than the pods have`)
}

const names = (all: readonly { readonly name: string }[]) => all.map(({ name }) => name)

interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>
}

function repeated(all: readonly string[]): string[] {
  return all.filter((each, i) => all.indexOf(each) !== i).map((each) => `${each} is there twice`)
}
