// Values as an administrator might combine them, and names that YAML takes for something else.
import * as fc from 'fast-check'

/** A release and its values. */
export interface Installation {
  readonly release: string
  readonly namespace: string
  readonly values: object
}

/** What YAML reads as a number, a boolean or nothing unless it is quoted, and what is just long enough. */
const TRICKY = ['a', 'on', 'y', 'null', '007', '1e3', '0x1f', 'x'.repeat(53), `${'b-'.repeat(26)}c`]

const some = <T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { requiredKeys: [] })
const name = fc.constantFrom(...TRICKY)
const dotted = fc.constantFrom('a', 'on', '12', 'b.c', 'docker-hub')
const TRUSTED = { name: 'trusted', configMap: 'on', trusted: 'ca.crt' }
const nameOf = (each: { readonly name: string }) => each.name
const flag = fc.boolean()
const list = <T>(each: fc.Arbitrary<T>) => fc.uniqueArray(each, { maxLength: 2 })
/** Few keys, so that several values meet in one. */
const labels = fc.dictionary(fc.constantFrom('team', 'on', 'example.com/tier'), name, {
  maxKeys: 2,
})
const duration = fc.constantFrom('1h', '0s', '1m30s')
const port = fc.constantFrom(1024, 5000, 5001, 30_500, 65_535)
const size = fc.constantFrom('50Gi', '1.5Ti', '100G', '1Pi', '500k', 53_687_091_200)
const address = fc.constantFrom('10.96.0.50', 'fd00::10', 'fd00::')
const cidr = fc.constantFrom('10.0.0.0/8', 'fd00::/8')
const selector = fc.record({ matchLabels: labels })
const count = fc.constantFrom(0, 1, 7, '50%')
const object = fc.constantFrom(
  { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: '{{ .Release.Name }}-more' } },
  '---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: more }\n---\n',
)
const observed = { enabled: flag, namespace: name, labels, annotations: labels }

const config = some({
  listen: fc.constantFrom(':8080', '0.0.0.0:8080', '[::]:8080'),
  admin: fc.constantFrom({ listen: ':8081' }, {}),
  storage: fc.constantFrom({ directory: '/cache' }, {}),
  shutdownDelay: duration,
  shutdownTimeout: duration,
  dockerConfig: fc.constantFrom('/a.json', ['/a.json', '/b.json']),
  configs: fc.constantFrom({}, { 'a.test': { auth: { username: 'a', password: 'b' } } }),
})

const service = some({
  type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer'),
  port,
  nodePort: fc.constantFrom(30_000, null),
  clusterIP: address,
  loadBalancerClass: fc.constantFrom('on', 'example.com/internal'),
  loadBalancerIP: address,
  loadBalancerSourceRanges: list(cidr),
  externalTrafficPolicy: fc.constantFrom('', 'Cluster', 'Local'),
  internalTrafficPolicy: fc.constantFrom('', 'Cluster', 'Local'),
  sessionAffinity: fc.constantFrom('None', 'ClientIP'),
  ipFamilyPolicy: fc.constantFrom('', 'SingleStack', 'PreferDualStack'),
  ipFamilies: fc.constantFrom([], ['IPv6'], ['IPv4', 'IPv6']),
  annotations: labels,
  labels,
})

const persistence = fc.oneof(
  some({
    size,
    storageClass: fc.constantFrom('', '-', 'on', 'fast'),
    annotations: labels,
    labels,
    selector,
    retention: some({ whenDeleted: fc.constantFrom('Retain', 'Delete') }),
    subPath: name,
  }),
  fc.record({ type: fc.constant('existingClaim'), existingClaim: dotted }),
  fc.record({
    type: fc.constant('emptyDir'),
    emptyDir: some({ sizeLimit: size, medium: fc.constantFrom('', 'Memory') }),
  }),
  fc.record({
    type: fc.constant('hostPath'),
    hostPath: fc.record({ path: fc.constant('/a'), type: fc.constantFrom('', 'Directory') }),
  }),
)

const tls = fc.oneof(
  fc.record({ existingSecret: dotted }),
  fc.record({
    certManager: fc.record({
      enabled: fc.constant(true),
      issuerRef: fc.record({ name: dotted, kind: fc.constant('ClusterIssuer') }),
      dnsNames: list(fc.constantFrom('a.test', 'b.test')),
      ipAddresses: list(address),
      duration,
      renewBefore: duration,
    }),
  }),
)

const caBundles = fc
  .uniqueArray(fc.record({ name: dotted, secret: dotted }), { maxLength: 2, selector: nameOf })
  .chain((secrets) => fc.constantFrom(secrets, [...secrets, TRUSTED]))

const pod = {
  resources: fc.constantFrom({}, { limits: { memory: '2Gi' } }),
  podSecurityContext: fc.constantFrom({}, { runAsUser: null, fsGroup: null }),
  securityContext: fc.constantFrom({}, { readOnlyRootFilesystem: false }),
  probes: some({
    startup: fc.constant(null),
    readiness: fc.constantFrom({}, { periodSeconds: 9 }),
  }),
  serviceAccount: some({ create: flag, name, annotations: labels }),
  terminationGracePeriodSeconds: fc.constantFrom(null, 0, 600),
  restartOnConfigChange: flag,
  annotations: labels,
  podAnnotations: labels,
  podLabels: labels,
  nodeSelector: labels,
  tolerations: fc.constantFrom([], [{ operator: 'Exists' }]),
  affinity: fc.constantFrom({}, null, { nodeAffinity: {} }),
  topologySpreadConstraints: fc.constantFrom(
    [],
    [{ maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable: 'DoNotSchedule' }],
  ),
  priorityClassName: name,
  runtimeClassName: name,
  dnsPolicy: fc.constantFrom('', 'Default'),
  dnsConfig: fc.constantFrom({}, { options: null }),
  extraArgs: list(fc.constantFrom('--log-level', 'on', '1')),
  extraEnv: fc.constantFrom([], [{ name: 'A', value: 'on' }]),
  extraEnvFrom: fc.constantFrom([], [{ secretRef: { name: 'a' } }]),
  extraVolumes: fc.constantFrom([], [{ name: 'more', emptyDir: {} }]),
}

const beside = {
  podDisruptionBudget: some({
    enabled: flag,
    maxUnavailable: fc.oneof(count, fc.constant(null)),
    minAvailable: fc.oneof(count, fc.constant(null)),
    unhealthyPodEvictionPolicy: fc.constantFrom('', 'AlwaysAllow'),
  }),
  networkPolicy: some({
    enabled: flag,
    registryFrom: list(fc.record({ ipBlock: fc.record({ cidr }) })),
    adminFrom: list(fc.record({ podSelector: selector })),
    egress: fc.constantFrom(null, [], [{ ports: [{ port: 443, protocol: 'TCP' }] }]),
    extraIngress: fc.constantFrom([], [{ from: [{ ipBlock: { cidr: '10.0.0.0/8' } }] }]),
  }),
  serviceMonitor: some({ ...observed, interval: fc.constantFrom('', '30s') }),
  prometheusRule: some({
    ...observed,
    disabled: list(fc.constantFrom('ChandleryDown', 'ChandleryServingStale')),
    alertLabels: labels,
  }),
  dashboard: some(observed),
  tests: some({ enabled: flag }),
  extraObjects: list(object),
}

const values = some({
  nameOverride: name,
  fullnameOverride: name,
  commonLabels: labels,
  commonAnnotations: labels,
  replicaCount: fc.constantFrom(0, 1),
  image: some({
    registry: fc.constantFrom('', 'a.test:5000'),
    tag: fc.constantFrom('', 'on', '1.10', '_a', `${'v'.repeat(62)}.${'v'.repeat(60)}`),
    digest: fc.constantFrom('', `sha256:${'0'.repeat(64)}`),
  }),
  imagePullSecrets: list(fc.record({ name: dotted })),
  config,
  registries: fc.constantFrom('', 'mirrors: {}\n', '# "quoted"\t\n'),
  credentials: some({ dockerConfigSecrets: list(dotted), secrets: list(dotted) }),
  caBundles,
  tls,
  admin: some({ token: some({ existingSecret: dotted, generate: flag }) }),
  service,
  hostPort: some({ enabled: flag, port, hostIP: fc.constantFrom('', '127.0.0.1', 'fd00::') }),
  persistence,
  ...pod,
  ...beside,
  global: fc.constantFrom({}, { imageRegistry: 'a.test' }),
})

export const installation: fc.Arbitrary<Installation> = fc.record({
  release: name,
  namespace: name,
  values,
})
