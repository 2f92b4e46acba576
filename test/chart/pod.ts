// The pods of a rendered case, with the fields that tests use.
import { type KubernetesObject, objectOf, objectsOf } from './rendered.ts'

export interface Container {
  readonly name: string
  readonly image: string
  readonly env?: readonly { readonly name: string; readonly value?: string }[]
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[]
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[]
  readonly securityContext?: object
}

export interface PodSpec {
  readonly containers: readonly Container[]
  readonly volumes?: readonly Volume[]
  readonly securityContext?: object
  readonly automountServiceAccountToken: boolean
  readonly terminationGracePeriodSeconds: number
}

export interface Volume {
  readonly name: string
  readonly configMap?: { readonly name: string }
  readonly secret?: { readonly secretName: string }
}

interface SetSpec {
  readonly template: { readonly metadata: KubernetesObject['metadata']; readonly spec: PodSpec }
  readonly volumeClaimTemplates?: readonly { readonly metadata: { readonly name: string } }[]
}

export function setOf(name: string): SetSpec {
  return objectOf(name, 'StatefulSet')['spec'] as SetSpec
}

export function serverOf(name: string): Container {
  const server = setOf(name).template.spec.containers.find((each) => each.name === 'chandlery')
  if (!server) throw new Error(`${name} has no server`)
  return server
}

/** Returns the configuration file of the server in a case. */
export function configFileOf(name: string): string {
  const files = objectsOf(name).flatMap(({ data, stringData }) => {
    const held = (data ?? stringData) as Readonly<Record<string, string>> | undefined
    return held?.['chandlery.yaml'] ?? []
  })
  return files[0] ?? ''
}
