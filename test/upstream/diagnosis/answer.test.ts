import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import {
  diagnoseAnswer,
  readError,
  type Asked,
  type Refusal,
} from '../../../src/upstream/diagnosis/answer.ts'
import { diagnoseNetwork as diagnose, type Phase } from '../../../src/upstream/diagnosis/network.ts'
import type { UpstreamError } from '../../../src/upstream/face/failure.ts'
import { AddressRefused } from '../../../src/upstream/address/lookup.ts'
import { exhaustionOf } from '../../../src/process/own-fault.ts'
import { TunnelError } from '../../../src/upstream/network/proxy/tunnel-error.ts'
import { TlsFileError } from '../../../src/upstream/network/tls.ts'

const NOW = Date.UTC(2026, 0, 1)

/** The verdict on an error of the network. */
function diagnoseNetwork(error: Error, asked: Asked, phase: Phase): UpstreamError {
  const failure = diagnose(error, asked, phase)
  if (failure === undefined) throw new Error('it is not known as an error of the network')
  return failure
}

const coded = (code: string) => Object.assign(new Error(code), { code })

const CODES = [
  'ENOTFOUND',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'CERT_HAS_EXPIRED',
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
  'EPROTO',
  'UND_ERR_HEADERS_OVERFLOW',
  'CHANDLERY_NO_ANSWER',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
  'UND_ERR_SOCKET',
  'ECONNRESET',
]
const WITHIN_BODY = [
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
  'UND_ERR_SOCKET',
]

const ASKED: Asked = {
  endpoint: 'https://mirror.test/v2',
  url: new URL('https://mirror.test/v2/a/manifests/b?secret=1'),
  host: 'mirror.test',
  authHost: 'mirror.test',
  redirected: false,
  forToken: false,
  credential: 'anonymous',
  identified: false,
}
const STORAGE: Partial<Asked> = {
  url: new URL('https://cdn.test/x?sig=secret'),
  host: 'cdn.test',
  redirected: true,
}
const TOKEN: Partial<Asked> = {
  url: new URL('https://auth.test/token?service=secret'),
  host: 'auth.test',
  forToken: true,
}

interface Row {
  readonly what: string
  readonly status: number
  readonly headers?: Refusal['headers']
  readonly body?: string
  readonly asked?: Partial<Asked>
  readonly reason: string
  readonly says: RegExp
  readonly retryAfterMs?: number
}

const HTML = { 'content-type': 'text/html; charset=utf-8' }
const oci = (code: string, message = '') => JSON.stringify({ errors: [{ code, message }] })

const ROWS: Row[] = [
  {
    what: 'a 401 to nobody',
    status: 401,
    reason: 'needs-credentials',
    says: /set configs\."mirror\.test"\.auth/,
  },
  {
    what: 'a 401 to a password',
    status: 401,
    asked: { credential: 'basic' },
    reason: 'bad-credentials',
    says: /refuses our credentials.*configs\."mirror\.test"\.auth, or dockerConfig/,
  },
  {
    what: 'a 401 to a token for a password',
    status: 401,
    asked: { credential: 'basic', identified: true },
    reason: 'denied',
    says: /accepts our credentials.*configs\."mirror\.test"\.auth/,
  },
  {
    what: 'a 401 behind a redirect',
    status: 401,
    asked: STORAGE,
    reason: 'denied',
    says: /cdn\.test.*mirrors\.<registry>\.endpoint/,
  },
  {
    what: 'a 403 in HTML',
    status: 403,
    headers: HTML,
    body: '<html>Your client does not have permission',
    reason: 'blocked',
    says: /blocks us.*another endpoint.*mirrors/,
  },
  {
    what: 'a 403 that looks like HTML',
    status: 403,
    body: ' <!DOCTYPE html><html>',
    reason: 'blocked',
    says: /blocks us/,
  },
  { what: 'a 451', status: 451, reason: 'blocked', says: /blocks us/ },
  {
    what: 'a 403 in JSON to nobody',
    status: 403,
    body: oci('DENIED', 'requested access'),
    reason: 'denied',
    says: /set configs\."mirror\.test"\.auth; it says: DENIED requested access/,
  },
  {
    what: 'a 403 to a user',
    status: 403,
    asked: { credential: 'basic' },
    reason: 'denied',
    says: /not let our user.*configs\."mirror\.test"\.auth/,
  },
  {
    what: 'a 403 of the storage',
    status: 403,
    asked: STORAGE,
    body: '<?xml version="1.0"?><Error/>',
    reason: 'denied',
    says: /cdn\.test/,
  },
  {
    what: 'a 404',
    status: 404,
    body: oci('MANIFEST_UNKNOWN', 'manifest unknown'),
    reason: 'not-found',
    says: /MANIFEST_UNKNOWN/,
  },
  {
    what: 'a 404 of Red Hat',
    status: 404,
    body: oci('UNKNOWN', 'Not Found'),
    reason: 'not-found',
    says: /Not Found/,
  },
  {
    what: 'a 404 with {message}',
    status: 404,
    body: '{"message":"nope"}',
    reason: 'not-found',
    says: /nope/,
  },
  {
    what: 'a 404 in HTML',
    status: 404,
    headers: HTML,
    body: '<html>',
    reason: 'not-found',
    says: /404/,
  },
  { what: 'a 410', status: 410, reason: 'not-found', says: /410/ },
  {
    what: 'a 400 for a name it could never have',
    status: 400,
    body: oci('NAME_INVALID'),
    reason: 'not-found',
    says: /NAME_INVALID/,
  },
  {
    what: 'a 400 of nginx to plain HTTP',
    status: 400,
    headers: HTML,
    body: '<title>400 The plain HTTP request was sent to HTTPS port</title>',
    reason: 'not-plain-http',
    says: /write https:\/\/mirror\.test in mirrors/,
  },
  {
    what: 'a 400 of Go to plain HTTP',
    status: 400,
    body: 'Client sent an HTTP request to an HTTPS server.\n',
    reason: 'not-plain-http',
    says: /speaks HTTPS/,
  },
  { what: 'another 400', status: 400, reason: 'protocol', says: /400/ },
  { what: 'a 405', status: 405, reason: 'protocol', says: /405/ },
  { what: 'a 304', status: 304, reason: 'protocol', says: /304/ },
  { what: 'a 408', status: 408, reason: 'timed-out', says: /408/ },
  {
    what: 'a 429 in seconds',
    status: 429,
    headers: { 'retry-after': '30' },
    reason: 'rate-limited',
    says: /for 30 s/,
    retryAfterMs: 30_000,
  },
  {
    what: 'a 429 with a date',
    status: 429,
    headers: { 'retry-after': new Date(NOW + 90_000).toUTCString() },
    reason: 'rate-limited',
    says: /for 90 s/,
    retryAfterMs: 90_000,
  },
  {
    what: 'a 429 of Docker Hub',
    status: 429,
    headers: { 'x-retry-after': String(NOW / 1000 + 55) },
    body: oci('TOOMANYREQUESTS', 'You have reached your pull rate limit'),
    reason: 'rate-limited',
    says: /pull rate limit/,
    retryAfterMs: 55_000,
  },
  {
    what: 'a 429 with a reset',
    status: 429,
    headers: { 'ratelimit-reset': '12' },
    reason: 'rate-limited',
    says: /for 12 s: /,
    retryAfterMs: 12_000,
  },
  {
    what: 'a 429 without a time',
    status: 429,
    reason: 'rate-limited',
    says: /is rate-limiting us \(429\): set configs/,
  },
  {
    what: 'TOOMANYREQUESTS with 403',
    status: 403,
    body: oci('TOOMANYREQUESTS'),
    reason: 'rate-limited',
    says: /is rate-limiting us \(403\)/,
  },
  { what: 'a 500', status: 500, body: 'oops', reason: 'server-error', says: /500/ },
  {
    what: 'a 503 with a time',
    status: 503,
    headers: { 'retry-after': '5' },
    reason: 'server-error',
    says: /503/,
    retryAfterMs: 5000,
  },
  {
    what: 'a 429 to a user',
    status: 429,
    asked: { credential: 'basic' },
    reason: 'rate-limited',
    says: /list another endpoint/,
  },
  {
    what: 'a 401 to a registry token',
    status: 401,
    asked: { credential: 'bearer', identified: true },
    reason: 'bad-credentials',
    says: /registrytoken of mirror\.test in dockerConfig/,
  },
  {
    what: 'a 401 of the token server',
    status: 401,
    asked: { ...TOKEN, credential: 'basic' },
    reason: 'bad-credentials',
    says: /token server auth\.test refuses our credentials.*configs\."mirror\.test"\.auth/,
  },
  {
    what: 'a 503 of the token server',
    status: 503,
    asked: TOKEN,
    reason: 'server-error',
    says: /token server auth\.test failed/,
  },
  { what: 'a 508', status: 508, reason: 'loop', says: /loop.*mirrors/ },
]

// All of them in one place, to be read as an operator reads them: what, where, and what cures it.
test('the messages about upstream failures are the golden ones', async () => {
  const answers = ROWS.map(({ what, status, headers = {}, body = '', asked }) => {
    const failure = diagnoseAnswer({ status, headers, body }, { ...ASKED, ...asked }, NOW)
    return [what, failure] as const
  })
  const broken = CODES.map((code) => {
    const phase = WITHIN_BODY.includes(code) ? 'body' : 'head'
    return [`${code} in the ${phase}`, diagnoseNetwork(coded(code), ASKED, phase)] as const
  })
  const lines = [...answers, ...broken].map(
    ([what, { reason, message }]) => `${what}: ${reason}\n  ${message}\n`,
  )
  await expect(lines.join('')).toMatchFileSnapshot('../../golden/upstream-failures.txt')
})

describe('a response', () => {
  test.each(ROWS)('that is $what is $reason', (row) => {
    const refusal = { status: row.status, headers: row.headers ?? {}, body: row.body ?? '' }
    const failure = diagnoseAnswer(refusal, { ...ASKED, ...row.asked }, NOW)
    expect(failure.reason).toBe(row.reason)
    expect(failure.message).toMatch(row.says)
    expect(failure.message.startsWith('https://mirror.test/v2: ')).toBe(true)
    expect(failure.message).not.toContain('secret')
    expect(failure).toMatchObject({ status: row.status, endpoint: 'https://mirror.test/v2' })
    expect(failure.retryAfterMs).toBe(row.retryAfterMs)
  })

  test('of any kind gets a diagnosis in one short printable line', () => {
    const anyRefusal = fc.record({
      status: fc.integer({ min: 300, max: 599 }),
      headers: fc.dictionary(
        fc.constantFrom('content-type', 'retry-after', 'ratelimit-reset'),
        fc.string(),
      ),
      body: fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.json(),
        fc.string().map((m) => oci('X', m)),
      ),
    })
    fc.assert(
      fc.property(anyRefusal, (refusal) => {
        const failure = diagnoseAnswer(refusal, ASKED, NOW)
        expect(failure.message).toMatch(/^[\x20-\x7e…]{1,500}$/)
        expect(failure.retryAfterMs ?? 0).toBeGreaterThanOrEqual(0)
      }),
    )
  })

  test.each([
    'see https://cdn.test/x?X-Amz-Signature=hidden&y=1',
    'see <https://user:hidden@cdn.test/x>',
    'Authorization: Bearer hidden.hidden-hidden',
    'got Basic aGlkZGVuOmhpZGRlbg==',
    'token eyJhbGciOiJoaWRkZW4ifQ.eyJzdWIiOiJoaWRkZW4ifQ.hidden is expired',
  ])('that repeats a secret is not quoted with it: %s', (message) => {
    const refusal = { status: 500, headers: {}, body: JSON.stringify({ message }) }
    const { message: told } = diagnoseAnswer(refusal, ASKED, NOW)
    expect(told).toMatch(/; it says: \w/)
    expect(told).not.toMatch(/hidden|aGlkZGVu|eyJ/)
  })

  test.each([
    { body: '{"errors":[{"code":"A","message":"b"}]}', error: { code: 'A', message: 'b' } },
    { body: '{"details":"incorrect username"}', error: { message: 'incorrect username' } },
    { body: '{"error":"invalid_grant"}', error: { message: 'invalid_grant' } },
    { body: '{"errors":"no list"}', error: {} },
    { body: '{"errors":[null]}', error: {} },
    { body: '[]', error: {} },
    { body: '', error: {} },
  ])('with the body $body says what there is to say', ({ body, error }) => {
    expect(readError(body)).toEqual(error)
  })
})

const parserError = (data: string) =>
  Object.assign(new Error('?'), { name: 'HTTPParserError', data })

describe('a network error', () => {
  test.each([
    {
      code: 'ENOTFOUND',
      reason: 'name-not-resolved',
      says: /cannot resolve mirror\.test.*configs\."mirror\.test"\.resolve/,
    },
    { code: 'EAI_AGAIN', reason: 'name-not-resolved', says: /DNS/ },
    {
      code: 'ECONNREFUSED',
      reason: 'refused',
      says: /refuses connections: check that it runs, and the port in mirrors\.<registry>\.endpoint$/,
    },
    { code: 'EHOSTUNREACH', reason: 'refused', says: /no route/ },
    { code: 'ENETUNREACH', reason: 'refused', says: /no route/ },
    { code: 'ETIMEDOUT', reason: 'timed-out', says: /no connection/ },
    { code: 'UND_ERR_CONNECT_TIMEOUT', reason: 'timed-out', says: /no connection/ },
    { code: 'UND_ERR_HEADERS_TIMEOUT', reason: 'timed-out', says: /no answer/ },
    {
      code: 'SELF_SIGNED_CERT_IN_CHAIN',
      reason: 'not-trusted',
      says: /set configs\."mirror\.test"\.tls\.ca_file/,
    },
    { code: 'DEPTH_ZERO_SELF_SIGNED_CERT', reason: 'not-trusted', says: /ca_file/ },
    { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', reason: 'not-trusted', says: /ca_file/ },
    { code: 'ERR_TLS_CERT_ALTNAME_INVALID', reason: 'not-trusted', says: /not for mirror\.test/ },
    { code: 'CERT_HAS_EXPIRED', reason: 'not-trusted', says: /not valid now/ },
    {
      code: 'ERR_SSL_WRONG_VERSION_NUMBER',
      reason: 'plain-http',
      says: /speaks HTTP without TLS: write http:\/\/mirror\.test in mirrors\.<registry>\.endpoint/,
    },
    { code: 'ERR_SSL_PACKET_LENGTH_TOO_LONG', reason: 'plain-http', says: /speaks HTTP/ },
    { code: 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', reason: 'tls', says: /tls\.cert_file/ },
    { code: 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE', reason: 'tls', says: /client certificate/ },
    { code: 'ERR_SSL_UNSUPPORTED_PROTOCOL', reason: 'tls', says: /configs\."mirror\.test"\.tls/ },
    { code: 'EPROTO', reason: 'tls', says: /TLS/ },
    { code: 'UND_ERR_HEADERS_OVERFLOW', reason: 'protocol', says: /headers that are too long/ },
    { code: 'ECONNRESET', reason: 'reset', says: /broke/ },
    { code: 'UND_ERR_SOCKET', reason: 'reset', says: /broke/ },
    { code: 'EPIPE', reason: 'reset', says: /broke.*EPIPE/ },
    { code: 'ECONNABORTED', reason: 'reset', says: /broke/ },
    { code: 'ENETDOWN', reason: 'refused', says: /no route/ },
    { code: 'EAFNOSUPPORT', reason: 'refused', says: /no route/ },
    { code: 'INVALID_PURPOSE', reason: 'not-trusted', says: /cannot be used/ },
    { code: 'UNSPECIFIED', reason: 'not-trusted', says: /cannot be used/ },
    { code: 'UND_ERR_DESTROYED', reason: 'reset', says: /shutting down/ },
  ])('$code before an answer is $reason', ({ code, reason, says }) => {
    const failure = diagnoseNetwork(coded(code), ASKED, 'head')
    expect(failure).toMatchObject({ reason, kind: 'unavailable' })
    expect(failure.message).toMatch(says)
    expect(failure.message).not.toContain('secret')
  })

  test.each([
    { code: 'UND_ERR_SOCKET', reason: 'cut' },
    { code: 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH', reason: 'cut' },
    { code: 'ECONNRESET', reason: 'reset' },
    { code: 'UND_ERR_BODY_TIMEOUT', reason: 'timed-out' },
  ])('$code within a body is $reason', ({ code, reason }) => {
    expect(diagnoseNetwork(coded(code), ASKED, 'body').reason).toBe(reason)
  })

  test('of the HTTP parser is diagnosed as the scheme, the protocol or a cut', () => {
    const alert = diagnoseNetwork(parserError('\x15\x03\x01\x00\x02\x02F'), ASKED, 'head')
    expect(alert.reason).toBe('not-plain-http')
    expect(alert.message).toContain('write https://mirror.test in mirrors.<registry>.endpoint')
    expect(diagnoseNetwork(parserError('SSH-2.0'), ASKED, 'head').reason).toBe('protocol')
    expect(diagnoseNetwork(parserError('zz'), ASKED, 'body').reason).toBe('cut')
  })

  test('at a token server or behind a redirect leads to what was configured for that host', () => {
    const error = coded('SELF_SIGNED_CERT_IN_CHAIN')
    const token = diagnoseNetwork(error, { ...ASKED, ...TOKEN }, 'head')
    expect(token.message).toContain('set configs."auth.test".tls.ca_file')
    const refused = diagnoseNetwork(coded('ECONNREFUSED'), { ...ASKED, ...TOKEN }, 'head')
    expect(refused.message).toContain('the realm that https://mirror.test/v2 names')
    const storage = diagnoseNetwork(coded('ENOTFOUND'), { ...ASKED, ...STORAGE }, 'head')
    expect(storage.message).toMatch(/cdn\.test.*where https:\/\/mirror\.test\/v2 redirects to/)
  })

  test('for a name that the certificate lacks says which names it has', () => {
    const altnames =
      "Hostname/IP does not match certificate's altnames: Host: mirror.test. is not in the cert's altnames: DNS:a.test, DNS:b.test"
    const error = Object.assign(new Error(altnames), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
    expect(diagnoseNetwork(error, ASKED, 'head').message).toContain(
      'but for DNS:a.test, DNS:b.test',
    )
  })

  test('of several addresses is the one of the first', () => {
    const error = new AggregateError([new Error('?'), coded('ECONNREFUSED'), coded('EHOSTUNREACH')])
    expect(diagnoseNetwork(error, ASKED, 'head').reason).toBe('refused')
  })

  test.each(['ESERVFAIL', 'ENODATA', 'ETIMEOUT', 'ECONNREFUSED'])(
    'of a DNS server that was configured (%s) is name-not-resolved',
    (code) => {
      const error = Object.assign(coded(code), { syscall: 'queryA' })
      expect(diagnoseNetwork(error, ASKED, 'head').reason).toBe('name-not-resolved')
    },
  )

  test.each(['EPERM', 'EACCES', 'EINVAL'])('%s of connect is refused', (code) => {
    const error = Object.assign(coded(code), { syscall: 'connect' })
    expect(diagnoseNetwork(error, ASKED, 'head').reason).toBe('refused')
  })

  test('of our own keeps its message', () => {
    const refused = diagnoseNetwork(
      new AddressRefused('10.0.0.1'),
      { ...ASKED, ...STORAGE },
      'head',
    )
    expect(refused.reason).toBe('redirect-refused')
    expect(refused.message).toMatch(/10\.0\.0\.1.*configs\."cdn\.test"\.resolve/)
    const file = diagnoseNetwork(new TlsFileError('ca_file /x: no such file'), ASKED, 'head')
    expect(file).toMatchObject({ reason: 'tls' })
    expect(file.message).toContain('configs."mirror.test".tls: ca_file /x')
  })
})

describe('an error that is not a network error', () => {
  test.each([
    new TypeError('x is not a function'),
    new RangeError('out of range'),
    new Error('without a code'),
    coded('NEVER_SEEN'),
    coded('EBADF'),
    coded('EPERM'),
    coded('ERR_ASSERTION'),
    coded('UND_ERR_INVALID_ARG'),
    coded('UND_ERR_NOT_SUPPORTED'),
    coded('UND_ERR_ABORTED'),
    coded('EMFILE'),
    coded('ENFILE'),
    coded('ENOMEM'),
    coded('ENOBUFS'),
    new AggregateError([coded('EMFILE'), coded('EMFILE')]),
    new AggregateError([coded('ECONNREFUSED'), coded('EMFILE')]),
    new TlsFileError('ca_file /x: EMFILE', { cause: coded('EMFILE') }),
    new TunnelError('no connection to the proxy', { cause: coded('EMFILE') }),
    new TunnelError('the proxy broke the connection off', { cause: new TypeError('bug') }),
  ])('says nothing about the upstream: $name $code $message', (error) => {
    for (const phase of ['head', 'body'] as const) {
      expect(diagnose(error, ASKED, phase)).toBeUndefined()
    }
  })

  test('names the resource that ran out, wherever it stands in the error', () => {
    const tried = new AggregateError([coded('ECONNREFUSED'), coded('EMFILE')])
    for (const error of [coded('EMFILE'), tried, new Error('x', { cause: tried })]) {
      expect(exhaustionOf(error)).toMatch(/^out of file descriptors \(EMFILE\): .*ulimit -n/)
    }
    expect(exhaustionOf(coded('ECONNREFUSED'))).toBeUndefined()
    const circle = new Error('x')
    circle.cause = circle
    expect(exhaustionOf(circle)).toBeUndefined()
  })
})
