import { beforeAll, describe, expect, test } from 'vitest'
import { fieldProblems, valueProblem } from './kinds.ts'
import { CASES, type KubernetesObject, objectsOf } from './rendered.ts'

const KINDS = [
  'Certificate',
  'ConfigMap',
  'NetworkPolicy',
  'Pod',
  'PodDisruptionBudget',
  'PrometheusRule',
  'Secret',
  'Service',
  'ServiceAccount',
  'ServiceMonitor',
  'StatefulSet',
]

const all = CASES.flatMap((name) => objectsOf(name))

test('the cases show every kind that the chart knows', () => {
  expect([...new Set(all.map(({ kind }) => kind))].toSorted()).toEqual(KINDS)
})

test.each(CASES)('in the case %s every value is one that its kind allows', async (name) => {
  const problems = await Promise.all(objectsOf(name).map(valueProblem))
  expect(problems.filter((problem) => problem !== undefined)).toEqual([])
})

test('no object has a field that its kind does not know, or lacks one', async () => {
  expect(await fieldProblems(all)).toEqual([])
})

const SELECTOR =
  '"selector":{"matchLabels":{"app.kubernetes.io/name":"chandlery","app.kubernetes.io/instance":"chandlery"}},'

/** Returns the first object of the kind, with a mistake made in its text. */
function mistaken(kind: string, right: string, wrong: string): KubernetesObject {
  const text = JSON.stringify(all.find((each) => each.kind === kind))
  if (!text.includes(right)) throw new Error(`${right} is not in a ${kind}`)
  return JSON.parse(text.replace(right, wrong)) as KubernetesObject
}

describe('a mistake in a rendered object', () => {
  let problems: string[] = []
  const mistakes: [said: string, kind: string, right: string, wrong: string][] = [
    [`'"replica"' does not exist`, 'StatefulSet', '"replicas"', '"replica"'],
    [`'"readinessprobe"' does not exist`, 'StatefulSet', '"readinessProbe"', '"readinessprobe"'],
    [`'"mountpath"' does not exist`, 'StatefulSet', '{"name":', '{"mountpath":1,"name":'],
    [`'"nodeport"' does not exist`, 'Service', '"targetPort"', '"nodeport":1,"targetPort"'],
    [`'"endpoint"' does not exist`, 'ServiceMonitor', '"endpoints"', '"endpoint":1,"endpoints"'],
    [`'"rule"' does not exist`, 'PrometheusRule', '"rules"', '"rule":1,"rules"'],
    [`'"issuer"' does not exist`, 'Certificate', '"issuerRef"', '"issuer":1,"issuerRef"'],
    [`'"selector"' is missing`, 'StatefulSet', SELECTOR, ''],
    [`'string' is not assignable`, 'StatefulSet', '"replicas":1', '"replicas":"1"'],
  ]

  beforeAll(async () => {
    problems = await fieldProblems(mistakes.map(([, ...mistake]) => mistaken(...mistake)))
  })

  test.each(mistakes)('is found: %s in a %s', (said) => {
    expect(problems.filter((problem) => problem.includes(said))).not.toEqual([])
  })

  test('is found by the validator: an interval that is not a duration', async () => {
    const monitor = mistaken('ServiceMonitor', '"interval":"30s"', '"interval":"often"')
    expect(await valueProblem(monitor)).toContain('interval')
  })
})
