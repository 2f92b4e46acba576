// The schema of values.yaml, from which values.schema.json is generated: Helm refuses everything else.
// `config` is the configuration file and has its schema. Parts that Kubernetes defines are not checked.
import { z } from 'zod'
import { configJsonSchema, type JsonSchema, jsonSchemaOf } from '../src/config/json-schema.ts'

const text = () => z.string()
const flag = () => z.boolean()
const count = (least = 0) => z.int().min(least)
const port = () => z.int().min(1).max(65_535)
const texts = () => z.array(z.string())
/** Returns the schema of a Kubernetes object, which the API server checks. */
const kubernetes = () => z.looseObject({})
const kubernetesList = () => z.array(kubernetes())
const labels = () => z.record(z.string(), z.string())
const quantity = () =>
  z.union([z.string().regex(/^[0-9]+(\.[0-9]+)?([KMGTP]i|[kMGTP])?$/), z.int().min(1)])
const name = () => z.string().regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/)
const nameOrNothing = () => z.string().regex(/^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$/)
const policy = () => z.enum(['', 'Cluster', 'Local'])

/** Returns the schema of a probe. The chart sets what is probed; values set how often. */
const probe = () =>
  z
    .strictObject({
      initialDelaySeconds: count(),
      periodSeconds: count(1),
      timeoutSeconds: count(1),
      successThreshold: count(1),
      failureThreshold: count(1),
      terminationGracePeriodSeconds: count(1),
    })
    .partial()
    .nullable()

const observed = { namespace: nameOrNothing(), labels: labels(), annotations: labels() }

const shape = {
  global: z.looseObject({}),
  enabled: flag(),
  nameOverride: text(),
  fullnameOverride: text(),
  commonLabels: labels(),
  commonAnnotations: labels(),
  replicaCount: count(),
  image: z.strictObject({
    registry: text(),
    repository: z.string().min(1),
    tag: text(),
    digest: z.string().regex(/^(sha256:[0-9a-f]{64})?$/),
    pullPolicy: z.enum(['Always', 'IfNotPresent', 'Never']),
  }),
  imagePullSecrets: z.array(z.strictObject({ name: name() })),
  config: z.unknown(),
  registries: text(),
  registriesSecret: z.strictObject({ name: nameOrNothing(), key: z.string().min(1) }),
  credentials: z.strictObject({
    dockerConfigSecrets: z.array(name()),
    secrets: z.array(name()),
  }),
  caBundles: z.array(
    z.strictObject({
      name: name(),
      configMap: name().optional(),
      secret: name().optional(),
      trusted: z.string().min(1).optional(),
    }),
  ),
  tls: z.strictObject({
    existingSecret: nameOrNothing(),
    certManager: z.strictObject({
      enabled: flag(),
      issuerRef: z.strictObject({ name: name(), kind: text(), group: text() }).partial(),
      dnsNames: texts(),
      ipAddresses: texts(),
      duration: text(),
      renewBefore: text(),
      privateKey: kubernetes(),
    }),
  }),
  admin: z.strictObject({
    token: z.strictObject({
      existingSecret: nameOrNothing(),
      key: z.string().min(1),
      generate: flag(),
    }),
  }),
  service: z.strictObject({
    type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer']),
    port: port(),
    nodePort: port().nullable(),
    clusterIP: text(),
    loadBalancerClass: text(),
    loadBalancerIP: text(),
    loadBalancerSourceRanges: texts(),
    externalTrafficPolicy: policy(),
    internalTrafficPolicy: policy(),
    sessionAffinity: z.enum(['None', 'ClientIP']),
    ipFamilyPolicy: z.enum(['', 'SingleStack', 'PreferDualStack', 'RequireDualStack']),
    ipFamilies: z.array(z.enum(['IPv4', 'IPv6'])),
    annotations: labels(),
    labels: labels(),
  }),
  hostPort: z.strictObject({ enabled: flag(), port: port(), hostIP: text() }),
  persistence: z.strictObject({
    type: z.enum(['volumeClaimTemplate', 'existingClaim', 'emptyDir', 'hostPath']),
    size: quantity(),
    storageClass: text(),
    accessModes: texts(),
    annotations: labels(),
    labels: labels(),
    selector: kubernetes(),
    retention: z.strictObject({
      whenDeleted: z.enum(['Retain', 'Delete']),
      whenScaled: z.enum(['Retain', 'Delete']),
    }),
    existingClaim: nameOrNothing(),
    subPath: text(),
    emptyDir: z.strictObject({
      sizeLimit: z.union([z.literal(''), quantity()]),
      medium: z.enum(['', 'Memory']),
    }),
    hostPath: z.strictObject({
      path: z.string().regex(/^(\/.*)?$/),
      type: z.enum(['', 'DirectoryOrCreate', 'Directory']),
    }),
  }),
  resources: kubernetes(),
  podSecurityContext: kubernetes(),
  securityContext: kubernetes(),
  serviceAccount: z.strictObject({
    create: flag(),
    name: nameOrNothing(),
    annotations: labels(),
  }),
  probes: z.strictObject({ startup: probe(), readiness: probe(), liveness: probe() }),
  terminationGracePeriodSeconds: count().nullable(),
  updateStrategy: kubernetes(),
  podManagementPolicy: z.enum(['Parallel', 'OrderedReady']),
  minReadySeconds: count(),
  revisionHistoryLimit: count(),
  restartOnConfigChange: flag(),
  annotations: labels(),
  podAnnotations: labels(),
  podLabels: labels(),
  nodeSelector: labels(),
  tolerations: kubernetesList(),
  affinity: kubernetes().nullable(),
  topologySpreadConstraints: kubernetesList(),
  priorityClassName: text(),
  runtimeClassName: text(),
  dnsPolicy: z.enum(['', 'ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None']),
  dnsConfig: kubernetes(),
  hostAliases: kubernetesList(),
  extraArgs: texts(),
  extraEnv: kubernetesList(),
  extraEnvFrom: kubernetesList(),
  extraVolumes: kubernetesList(),
  extraVolumeMounts: kubernetesList(),
  initContainers: kubernetesList(),
  sidecars: kubernetesList(),
  extraObjects: z.array(z.union([z.string(), kubernetes()])),
  podDisruptionBudget: z.strictObject({
    enabled: flag(),
    maxUnavailable: z.union([count(), z.string()]).nullable(),
    minAvailable: z.union([count(), z.string()]).nullable(),
    unhealthyPodEvictionPolicy: z.enum(['', 'AlwaysAllow', 'IfHealthyBudget']),
  }),
  networkPolicy: z.strictObject({
    enabled: flag(),
    registryFrom: kubernetesList(),
    adminFrom: kubernetesList(),
    egress: kubernetesList().nullable(),
    extraIngress: kubernetesList(),
  }),
  serviceMonitor: z.strictObject({
    enabled: flag(),
    ...observed,
    interval: text(),
    scrapeTimeout: text(),
    relabelings: kubernetesList(),
    metricRelabelings: kubernetesList(),
  }),
  prometheusRule: z.strictObject({
    enabled: flag(),
    ...observed,
    disabled: texts(),
    alertLabels: labels(),
    extraRules: kubernetesList(),
  }),
  dashboard: z.strictObject({ enabled: flag(), ...observed }),
  tests: z.strictObject({ enabled: flag() }),
}

/** Returns values.schema.json: a JSON Schema 2020-12 without references, by which Helm checks values. */
export function valuesJsonSchema(): JsonSchema {
  const schema = withoutRequired(jsonSchemaOf(z.strictObject(shape)))
  const { title: _, $schema: __, ...config } = configJsonSchema()
  return { ...schema, properties: { ...schema.properties, config } }
}

/** Makes every value optional: Helm removes a value that somebody sets to null. */
function withoutRequired(node: JsonSchema): JsonSchema {
  const { required: _, properties, ...rest } = node
  if (!properties) return rest
  const entries = Object.entries(properties).map(([key, each]) => [key, withoutRequired(each)])
  return { ...rest, properties: Object.fromEntries(entries) }
}
