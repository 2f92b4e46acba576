// The chart as rendered by helm for each case of test/chart/values. test/e2e/chart/ compares these
// goldens with what helm renders now.
import { readdirSync, readFileSync } from 'node:fs'
import { parseAllDocuments } from 'yaml'

/** A Kubernetes object, with the fields that tests use. */
export interface KubernetesObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
  }
  readonly [key: string]: unknown
}

/** The names of the cases. */
export const CASES = readdirSync('test/chart/values').map((file) => file.replace('.yaml', ''))

/** Stands in a golden for text that is a copy of a file, or random. */
export const DASHBOARD_MARK = '<dashboards/chandlery.json>'

/** Returns the objects of a case. */
export function objectsOf(name: string): KubernetesObject[] {
  return parseObjects(readFileSync(`test/golden/helm/${name}.yaml`, 'utf8'))
}

export function parseObjects(text: string): KubernetesObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    const object = document.toJS() as KubernetesObject | null
    return object === null ? [] : [object]
  })
}

/** Returns the only object of its kind (and name). */
export function objectOf(name: string, kind: string, objectName?: string): KubernetesObject {
  const found = objectsOf(name).filter((object) => {
    return object.kind === kind && (objectName ?? object.metadata.name) === object.metadata.name
  })
  const [object] = found
  if (found.length !== 1 || !object) throw new Error(`${name} has ${found.length} of ${kind}`)
  return object
}
