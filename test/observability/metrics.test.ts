import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { BoundedLabel } from '../../src/observability/bounded-label.ts'
import { Metrics } from '../../src/observability/metrics.ts'
import type { RequestRecord } from '../../src/server/observer.ts'
import { UpstreamError } from '../../src/upstream/face/failure.ts'

const GOLDEN = new URL('../golden/metrics.txt', import.meta.url)

function create() {
  return new Metrics({
    version: '1.2.3',
    processMetrics: false,
    storeUsage: async () => ({ blobs: 3, bytes: 4096 }),
    upstreams: {
      endpoints: () => [
        { endpoint: 'https://a.test/v2', state: 'open', message: 'down' },
        { endpoint: 'https://b.test/v2', state: 'ok' },
      ],
      rateLimits: () => [
        { endpoint: 'https://b.test/v2', credential: 'anonymous', limit: 100, remaining: 76 },
      ],
    },
  })
}

function record(change: Partial<RequestRecord> = {}): RequestRecord {
  return {
    id: 'a-1',
    method: 'GET',
    path: '/v2/library/secret-name/blobs/sha256:x',
    kind: 'blob',
    registry: 'docker.io',
    repository: 'library/secret-name',
    reference: 'sha256:secret-digest',
    cache: 'hit',
    status: 200,
    bytes: 1000,
    seconds: 0.02,
    client: '192.0.2.1',
    userAgent: 'test/1',
    aborted: false,
    failure: undefined,
    message: undefined,
    ...change,
  }
}

/** The value of the one sample that starts so. */
async function sample(metrics: Metrics, start: string): Promise<number | undefined> {
  const line = (await metrics.exposition()).split('\n').find((each) => each.startsWith(`${start} `))
  return line === undefined ? undefined : Number(line.slice(start.length + 1))
}

describe('the metrics', () => {
  it('have the names, types, labels and help texts that dashboards rely on', async () => {
    expect(`${(await create().describe()).join('\n')}\n`).toBe(readFileSync(GOLDEN, 'utf8'))
  })

  it('count requests by kind, cache state and code, and their bytes', async () => {
    const metrics = create()
    for (const change of [{}, {}, { cache: undefined, status: 404, bytes: 10 }]) {
      metrics.requestStarted()
      metrics.requestFinished(record(change))
    }
    metrics.requestStarted()
    const total = 'chandlery_http_requests_total'
    expect(await sample(metrics, `${total}{kind="blob",cache="hit",code="200"}`)).toBe(2)
    expect(await sample(metrics, `${total}{kind="blob",cache="none",code="404"}`)).toBe(1)
    const bytes = 'chandlery_http_response_bytes_total'
    expect(await sample(metrics, `${bytes}{kind="blob",cache="hit"}`)).toBe(2000)
    expect(await sample(metrics, 'chandlery_http_requests_in_flight')).toBe(1)
    const seconds = 'chandlery_http_request_duration_seconds_count'
    expect(await sample(metrics, `${seconds}{kind="blob",cache="hit"}`)).toBe(2)
  })

  it('keep the aliases of distribution, starting at 0', async () => {
    const metrics = create()
    for (const what of ['requests', 'hits', 'misses', 'pulled_bytes', 'pushed_bytes']) {
      expect(await sample(metrics, `registry_proxy_${what}_total{type="manifest"}`)).toBe(0)
    }
    metrics.requestFinished(record())
    metrics.requestFinished(record({ cache: 'miss' }))
    metrics.requestFinished(record({ kind: 'manifest', cache: 'revalidated' }))
    metrics.requestFinished(record({ kind: 'tags' }))
    metrics.upstreamBytes('https://registry-1.docker.io/v2', 700, 'blob')
    metrics.upstreamBytes('https://registry-1.docker.io/v2', 70, 'manifest')
    metrics.upstreamBytes('https://registry-1.docker.io/v2', 7, 'tags')
    const values = await Promise.all(
      [
        'requests_total{type="blob"}',
        'hits_total{type="blob"}',
        'misses_total{type="blob"}',
        'pulled_bytes_total{type="blob"}',
        'pulled_bytes_total{type="manifest"}',
        'pushed_bytes_total{type="blob"}',
        'hits_total{type="manifest"}',
      ].map((name) => sample(metrics, `registry_proxy_${name}`)),
    )
    expect(values).toEqual([2, 1, 1, 700, 70, 2000, 1])
    expect(
      await sample(
        metrics,
        'chandlery_upstream_bytes_total{endpoint="https://registry-1.docker.io/v2"}',
      ),
    ).toBe(777)
  })

  it('show the state and the remaining quota of endpoints, read at each scrape', async () => {
    const metrics = create()
    for (let scrapes = 0; scrapes < 2; scrapes++) {
      const state = (endpoint: string, name: string) =>
        sample(
          metrics,
          `chandlery_upstream_endpoint_state{endpoint="https://${endpoint}/v2",state="${name}"}`,
        )
      expect(await state('a.test', 'open')).toBe(1)
      expect(await state('a.test', 'ok')).toBe(0)
      expect(await state('b.test', 'ok')).toBe(1)
      const labels = 'endpoint="https://b.test/v2",credential="anonymous"'
      expect(await sample(metrics, `chandlery_upstream_ratelimit_limit{${labels}}`)).toBe(100)
      expect(await sample(metrics, `chandlery_upstream_ratelimit_remaining{${labels}}`)).toBe(76)
    }
  })

  it('name no repository, tag, digest or client', async () => {
    const metrics = create()
    metrics.requestFinished(record())
    const text = await metrics.exposition()
    for (const secret of ['secret-name', 'secret-digest', '192.0.2.1', 'docker.io']) {
      expect(text).not.toContain(secret)
    }
  })

  it('show upstream requests, failures and tokens by endpoint, in a bounded number', async () => {
    const metrics = create()
    const failed = (endpoint: string) =>
      metrics.upstreamFailure(new UpstreamError('blocked', 'x', { endpoint }), { kind: 'manifest' })
    for (let n = 0; n < 300; n++) failed(`https://host-${n}.example/v2`)
    const failures = 'chandlery_upstream_failures_total'
    expect(await sample(metrics, `${failures}{endpoint="other",reason="blocked"}`)).toBe(200)
    metrics.upstreamRequest({
      endpoint: 'https://host-1.example/v2',
      method: 'GET',
      kind: 'manifest',
      outcome: '403',
      seconds: 0.2,
    })
    const requests = 'chandlery_upstream_requests_total'
    const labels = '{endpoint="https://host-1.example/v2",kind="manifest",code="403"}'
    expect(await sample(metrics, requests + labels)).toBe(1)
    metrics.tokenRequest({ realm: 'auth.docker.io', outcome: 'ok' })
    const tokens = 'chandlery_token_requests_total{realm="auth.docker.io",outcome="ok"}'
    expect(await sample(metrics, tokens)).toBe(1)
  })

  it('count content that failed verification, wherever that was found, and no lists', async () => {
    const metrics = create()
    const endpoint = 'https://a/v2'
    const wrong = new UpstreamError('wrong-digest', 'x', { endpoint })
    metrics.upstreamFailure(wrong, { kind: 'manifest' })
    metrics.upstreamFailure(new UpstreamError('too-large', 'x', { endpoint }), { kind: 'tags' })
    metrics.upstreamFailure(new UpstreamError('cut', 'x', { endpoint }), { kind: 'manifest' })
    metrics.sourceFailed(new UpstreamError('wrong-size', 'x', { endpoint }))
    metrics.sourceFailed(new UpstreamError('not-found', 'x', { endpoint }))
    metrics.verificationFailed(endpoint)
    const verification = `chandlery_verification_failures_total{endpoint="${endpoint}"}`
    expect(await sample(metrics, verification)).toBe(3)
    const failures = `chandlery_upstream_failures_total{endpoint="${endpoint}",reason=`
    const counts = ['wrong-digest', 'too-large', 'cut', 'wrong-size', 'not-found'].map((reason) =>
      sample(metrics, `${failures}"${reason}"}`),
    )
    expect(await Promise.all(counts)).toEqual([1, 1, 1, 1, undefined])
  })

  it('follow downloads, their readers and the store', async () => {
    const metrics = create()
    metrics.downloadStarted()
    metrics.downloadStarted()
    metrics.downloadEnded('kept')
    metrics.readersChanged(1)
    metrics.readersChanged(1)
    metrics.readersChanged(-1)
    metrics.staleServed('upstream-gone')
    metrics.storeError('write')
    metrics.verificationFailed('several')
    expect(await sample(metrics, 'chandlery_downloads_running')).toBe(1)
    expect(await sample(metrics, 'chandlery_download_readers')).toBe(1)
    expect(await sample(metrics, 'chandlery_store_bytes')).toBe(4096)
    expect(await sample(metrics, 'chandlery_store_blobs')).toBe(3)
    expect(await sample(metrics, 'chandlery_downloads_total{outcome="kept"}')).toBe(1)
    const build = `chandlery_build_info{version="1.2.3",node="${process.versions.node}"}`
    expect(await sample(metrics, build)).toBe(1)
  })

  it('include those of the process', async () => {
    const text = await new Metrics({ version: '1' }).exposition()
    expect(text).toContain('process_resident_memory_bytes')
    expect(text).toContain('nodejs_eventloop_lag_seconds')
    expect(text).not.toMatch(/^# TYPE \S+_total (?!counter)/m)
  })
})

describe('the codes of upstream requests', () => {
  const endpoint = 'https://a.test/v2'
  const upstreamRequest = (metrics: Metrics, outcome: string) =>
    metrics.upstreamRequest({ endpoint, method: 'GET', kind: 'blob', outcome, seconds: 1 })

  it('are few, whatever statuses an upstream chooses', async () => {
    const metrics = create()
    for (let status = 100; status <= 999; status++) upstreamRequest(metrics, String(status))
    const text = await metrics.exposition()
    const series = text.match(/^chandlery_upstream_requests_total\{/gm) ?? []
    expect(series.length).toBeLessThan(70)
    expect(text.match(/^chandlery_upstream_requests_total\{.*code="429"\} 1$/gm)).toHaveLength(1)
  })

  it.each([
    ['200', '200'],
    ['404', '404'],
    ['523', '523'],
    ['299', '2xx'],
    ['499', '4xx'],
    ['599', '5xx'],
    ['999', 'other'],
    ['timed-out', 'timed-out'],
  ])('of status %s are %s', async (outcome, code) => {
    const metrics = create()
    upstreamRequest(metrics, outcome)
    const name = 'chandlery_upstream_requests_total'
    expect(
      await sample(metrics, `${name}{endpoint="${endpoint}",kind="blob",code="${code}"}`),
    ).toBe(1)
  })
})

describe('a bounded label', () => {
  it('keeps the values it knows and calls later ones "other"', () => {
    const label = new BoundedLabel(2)
    expect(['a', 'b', 'c', 'a', 'c'].map((each) => label.of(each))).toEqual([
      'a',
      'b',
      'other',
      'a',
      'other',
    ])
  })
})
