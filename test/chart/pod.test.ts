import { describe, expect, test } from 'vitest'
import { type Container, serverOf, setOf } from './pod.ts'
import { CASES, objectOf, objectsOf } from './rendered.ts'

const RESTRICTED_POD = { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } }
const RESTRICTED_CONTAINER = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
}

const names = (list: readonly { readonly name: string }[]) => list.map((each) => each.name)

describe.each(CASES)('in the case %s', (name) => {
  const { template, volumeClaimTemplates = [] } = setOf(name)
  const server = serverOf(name)

  test('server and test meet the restricted profile, without a Kubernetes token', () => {
    const specs = objectsOf(name).flatMap(({ kind, spec }) => {
      return kind === 'Pod' ? [spec as typeof template.spec] : []
    })
    for (const spec of [template.spec, ...specs]) {
      expect(spec.securityContext).toMatchObject(RESTRICTED_POD)
      expect(spec.automountServiceAccountToken).toBe(false)
      const ours = spec.containers.filter(({ name: container }) => container !== 'beside')
      expect(ours.map(({ securityContext }) => securityContext)).toEqual(
        ours.map(() => RESTRICTED_CONTAINER),
      )
    }
  })

  test('every mount has its volume, every volume is mounted, and no two lie at one place', () => {
    const mounts = server.volumeMounts ?? []
    const volumes = [
      ...names(template.spec.volumes ?? []),
      ...names(volumeClaimTemplates.map(({ metadata }) => metadata)),
    ]
    expect(names(mounts).toSorted()).toEqual(volumes.toSorted())
    expect(new Set(mounts.map(({ mountPath }) => mountPath)).size).toBe(mounts.length)
  })

  test('what the release itself has is mounted under its name', () => {
    const made = objectsOf(name).flatMap(({ kind, metadata }) =>
      /^(ConfigMap|Secret)$/.test(kind) ? [`${kind} ${metadata.name}`] : [],
    )
    const mounted = (template.spec.volumes ?? []).flatMap(({ configMap, secret }) => [
      ...(configMap ? [`ConfigMap ${configMap.name}`] : []),
      ...(secret ? [`Secret ${secret.secretName}`] : []),
    ])
    const unused = made.filter((each) => !mounted.includes(each))
    expect(unused.filter((each) => !/-(dashboard|more|text)$/.test(each))).toEqual([])
  })

  test('mounts follow their source: no file is mounted alone', () => {
    const files = (server.volumeMounts ?? []).filter((mount) => 'subPath' in mount)
    expect(files.filter((mount) => mount.name !== 'cache')).toEqual([])
  })

  test('Services send to the servers alone, at ports that they have', () => {
    const labels = template.metadata.labels ?? {}
    const ports = server.ports?.map((port) => port.name) ?? []
    for (const service of objectsOf(name).filter(({ kind }) => kind === 'Service')) {
      const { selector, ports: sent } = service['spec'] as ServiceSpec
      expect(labels).toMatchObject(selector)
      expect(ports).toEqual(expect.arrayContaining(sent.map(({ targetPort }) => targetPort)))
      for (const { kind, metadata } of objectsOf(name)) {
        if (kind === 'Pod') expect(metadata.labels).not.toMatchObject(selector)
      }
    }
  })

  test('ports are those that the server listens on', () => {
    const [registry, admin] = server.ports ?? []
    expect(registry?.name).toBe('registry')
    expect(admin?.name).toBe('admin')
    const values = new Map(server.env?.map(({ name: key, value }) => [key, value]))
    expect(values.get('CHANDLERY_LISTEN')).toMatch(`:${registry?.containerPort}`)
    expect(values.get('CHANDLERY_ADMIN_LISTEN')).toMatch(`:${admin?.containerPort}`)
  })
})

interface ServiceSpec {
  readonly selector: Readonly<Record<string, string>>
  readonly ports: readonly { readonly port: number; readonly targetPort: string }[]
}

test.each([
  ['default', 5 + 30 + 15],
  ['everything', 10 + 90 + 15],
  ['host-port', 5 + 2 + 15],
  ['load-balancer', 30 + 15],
])('in the case %s Kubernetes waits longer than the server takes to end', (name, seconds) => {
  expect(setOf(name).template.spec.terminationGracePeriodSeconds).toBe(seconds)
})

test('a Service without an address of its own has the port of the container', () => {
  const { ports } = objectOf('host-port', 'Service', 'chandlery-cache-headless')[
    'spec'
  ] as ServiceSpec
  expect(ports.map(({ port }) => port)).toEqual([8081])
})

test('a configuration with a secret written out is kept in a Secret, any other in a ConfigMap', () => {
  expect(objectOf('load-balancer', 'Secret', 'chandlery')).toHaveProperty('stringData')
  expect(objectOf('everything', 'ConfigMap', 'mirror')).toHaveProperty('data')
})

test('probes ask what they are for', () => {
  const probes = serverOf('default') as Container & Record<string, { httpGet: object }>
  expect(probes['readinessProbe']?.httpGet).toEqual({ path: '/readyz', port: 'admin' })
  expect(probes['livenessProbe']?.httpGet).toEqual({ path: '/healthz', port: 'admin' })
  expect(probes['startupProbe']?.httpGet).toEqual({ path: '/healthz', port: 'admin' })
  expect(serverOf('node-port')).not.toHaveProperty('startupProbe')
})
