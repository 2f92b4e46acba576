import { describe, expect, it } from 'vitest'
import { AccessLog } from '../../src/observability/access-log.ts'
import { EventLog } from '../../src/observability/event-log.ts'
import { createLogger, type LogLevel } from '../../src/observability/logger.ts'
import { Occurrences } from '../../src/observability/occurrences.ts'
import type { RequestRecord } from '../../src/server/observer.ts'
import { UpstreamError } from '../../src/upstream/face/failure.ts'

function capture(level: LogLevel = 'info') {
  const lines: Record<string, unknown>[] = []
  const write = (text: string) => void lines.push(JSON.parse(text))
  return { lines, logger: createLogger({ level, destination: { write } }) }
}

const RECORD: RequestRecord = {
  id: 'a-1',
  method: 'GET',
  path: '/v2/library/alpine/manifests/latest',
  kind: 'manifest',
  registry: 'docker.io',
  repository: 'library/alpine',
  reference: 'latest',
  cache: 'hit',
  status: 200,
  bytes: 528,
  seconds: 0.00123,
  client: '192.0.2.1',
  userAgent: 'containerd/2.1',
  aborted: false,
  failure: undefined,
  message: undefined,
}

describe('the access log', () => {
  it('has one line for a request with what it was, how it went, and for whom', () => {
    const { lines, logger } = capture()
    new AccessLog(logger).requestFinished(RECORD)
    expect(lines).toEqual([
      {
        level: 'info',
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        requestId: 'a-1',
        method: 'GET',
        path: '/v2/library/alpine/manifests/latest',
        kind: 'manifest',
        registry: 'docker.io',
        repository: 'library/alpine',
        reference: 'latest',
        cache: 'hit',
        status: 200,
        bytes: 528,
        durationMs: 1.2,
        client: '192.0.2.1',
        userAgent: 'containerd/2.1',
        msg: 'request',
      },
    ])
  })

  it('says why a request failed, as a warning where the client is not to blame', () => {
    const { lines, logger } = capture()
    const log = new AccessLog(logger)
    const failed = { ...RECORD, failure: 'blocked', message: 'blocked by the upstream' }
    log.requestFinished({ ...failed, status: 403 })
    log.requestFinished({ ...failed, status: 502, aborted: true })
    expect(
      lines.map(({ level, failure, message, aborted }) => ({ level, failure, message, aborted })),
    ).toEqual([
      { level: 'info', failure: 'blocked', message: 'blocked by the upstream' },
      { level: 'warn', failure: 'blocked', message: 'blocked by the upstream', aborted: true },
    ])
  })

  it('does not let a client write lines of any length', () => {
    const { lines, logger } = capture()
    new AccessLog(logger).requestFinished({ ...RECORD, userAgent: 'x'.repeat(60_000) })
    expect(String(lines[0]?.['userAgent']).length).toBeLessThan(300)
  })
})

describe('the event log', () => {
  const error = new UpstreamError('rate-limited', 'wait, or configure a login under `configs`', {
    endpoint: 'https://registry-1.docker.io/v2',
    status: 429,
    retryAfterMs: 60_000,
  })

  it('names the kind of an upstream failure, and when a limit ends', () => {
    const { lines, logger } = capture()
    new EventLog(logger, () => 0).upstreamFailure(error, { kind: 'manifest' })
    expect(lines).toMatchObject([
      {
        level: 'warn',
        endpoint: 'https://registry-1.docker.io/v2',
        reason: 'rate-limited',
        status: 429,
        until: '1970-01-01T00:01:00.000Z',
        kind: 'manifest',
        msg: 'wait, or configure a login under `configs`',
      },
    ])
  })

  it('repeats the same failure of the same endpoint only once in a while, with a count', () => {
    const { lines, logger } = capture()
    let now = 0
    const log = new EventLog(logger, () => now)
    for (now = 0; now <= 25_000; now += 1000) log.upstreamFailure(error, { kind: 'blob' })
    expect(lines.map((line) => line['suppressed'])).toEqual([undefined, 9, 9])
    log.upstreamFailure(new UpstreamError('cut', 'cut', { endpoint: error.endpoint }), {
      kind: 'blob',
    })
    expect(lines.length).toBe(4)
  })

  it('does not warn about content that merely does not exist', () => {
    const { lines, logger } = capture()
    const gone = new UpstreamError('not-found', 'not found', { endpoint: 'https://a/v2' })
    new EventLog(logger).upstreamFailure(gone, { kind: 'manifest' })
    expect(lines).toEqual([])
  })

  it('reports the store, verification and token servers', () => {
    const { lines, logger } = capture()
    const log = new EventLog(logger)
    log.storeError('write', new Error('ENOSPC'))
    log.verificationFailed('https://a/v2', 'blob')
    log.tokenRequest({ realm: 'auth.example.com', outcome: 'refused' })
    log.tokenRequest({ realm: 'auth.example.com', outcome: 'ok' })
    log.unexpectedError('freshness', new Error('bug'))
    expect(lines.map((line) => line['level'])).toEqual(['error', 'warn', 'warn', 'error'])
    expect(lines[0]).toMatchObject({ err: { message: 'ENOSPC' }, operation: 'write' })
  })
})

describe('the log of refused connections', () => {
  const refused = { message: 'TLS was sent: use http://', client: '192.0.2.1' }

  it('has one line in a while for each reason, with a count, whoever it was', () => {
    const { lines, logger } = capture()
    let now = 0
    const log = new EventLog(logger, () => now)
    for (const client of ['192.0.2.1', '192.0.2.2', '192.0.2.3']) {
      log.connectionRefused({ ...refused, reason: 'tls-to-plain-port', client })
    }
    log.connectionRefused({ ...refused, reason: 'timed-out' })
    now = 10_000
    log.connectionRefused({ ...refused, reason: 'tls-to-plain-port', client: '192.0.2.4' })
    expect(
      lines.map(({ level, reason, client, suppressed }) => [level, reason, client, suppressed]),
    ).toEqual([
      ['warn', 'tls-to-plain-port', '192.0.2.1', undefined],
      ['info', 'timed-out', '192.0.2.1', undefined],
      ['warn', 'tls-to-plain-port', '192.0.2.4', 2],
    ])
    expect(lines[0]).toMatchObject({ msg: 'a connection was refused: TLS was sent: use http://' })
  })
})

describe('the logger', () => {
  it('leaves secrets out, wherever an error carries them', () => {
    const { lines, logger } = capture()
    const headers = { Authorization: 'Bearer abc', 'set-cookie': 'abc', accept: '*/*' }
    logger.info({ headers }, 'x')
    const cause = Object.assign(new Error('refused'), { options: { headers } })
    logger.info({ err: Object.assign(new Error('failed', { cause }), { request: { headers } }) })
    expect(JSON.stringify(lines)).not.toContain('abc')
    expect(lines).toMatchObject([
      { headers: { Authorization: '[redacted]', accept: '*/*' } },
      { err: { message: 'failed', type: 'Error', causes: ['Error: refused'] } },
    ])
  })

  it('can be made for standard output as well', () => {
    expect(createLogger({ level: 'silent' }).level).toBe('silent')
  })
})

describe('remembered occurrences', () => {
  it('are forgotten, the oldest first, before they fill the memory', () => {
    const occurrences = new Occurrences(1000)
    for (let n = 0; n <= 1000; n++) occurrences.count(`k${n}`, 0)
    expect(occurrences.count('k1000', 1)).toBeUndefined()
    expect(occurrences.count('k0', 1)).toBe(0)
  })

  it('are reported again at once when the clock was set back', () => {
    const occurrences = new Occurrences(1000)
    occurrences.count('a', 1_000_000)
    expect(occurrences.count('a', 0)).toBe(0)
  })
})
