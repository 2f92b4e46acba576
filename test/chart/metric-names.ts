// The metrics and labels in PromQL expressions, for tests of the dashboard and the alerts.
import { Metrics } from '../../src/observability/metrics.ts'

export interface Asked {
  readonly metric: string
  /** The labels in its braces. */
  readonly labels: readonly string[]
}

/** Returns every metric in the expression with the labels it is selected by. Functions are left out. */
export function metricsAsked(expression: string): Asked[] {
  const selectors = expression.matchAll(/\b([a-z]\w*_\w+|up)\b(?!\s*\()(?:\{([^}]*)\})?/g)
  const grouped = expression.replaceAll(/\b(by|without|on|ignoring)\s*\([^)]*\)/g, '')
  return [...selectors]
    .filter(([, metric = '']) => new RegExp(`\\b${metric}\\b`).test(grouped))
    .map(([, metric = '', braces = '']) => ({
      metric,
      labels: [...braces.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)].map(([, label = '']) => label),
    }))
}

/** Returns the labels of every metric of a server, by name, including the series of histograms. */
export async function realMetrics(): Promise<ReadonlyMap<string, readonly string[]>> {
  const described = await new Metrics({
    version: '1',
    storeUsage: () => Promise.resolve({ blobs: 0, bytes: 0 }),
    upstreams: { endpoints: () => [], rateLimits: () => [] },
  }).describe()
  const real = new Map<string, readonly string[]>()
  for (const line of described) {
    const [, name = '', labels = '', type] = /^(\w+)\{(.*?)\} (\w+)/.exec(line) ?? []
    const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']
    for (const suffix of suffixes) real.set(name + suffix, labels.split(','))
  }
  return real
}
