// Which kind of failure a network error is, and what to do about it: pure, one row per error code
// of Node, OpenSSL, llhttp and undici. The only place where such errors become upstream errors.
import { notPlainHttp, writtenIn } from './answer.ts'
import type { Asked } from './answer.ts'
import { UpstreamError } from '../face/failure.ts'
import type { FailureReason } from '../face/failure.ts'
import { AddressRefused } from '../address/lookup.ts'
import { exhaustionOf, isBug } from '../../process/own-fault.ts'
import { TunnelError } from '../network/proxy/tunnel-error.ts'
import { TlsFileError } from '../network/tls.ts'

/** How far the exchange had come: no answer yet, or within its body. */
export type Phase = 'head' | 'body'

type Verdict = readonly [reason: FailureReason, what: string]

/**
 * Returns what it means for the upstream that an exchange broke. Returns undefined for everything
 * that is not known to come from the network: a resource that ran out here, a bug, misuse of
 * undici. Such an error is ours, and the caller must throw it as it is.
 */
export function diagnoseNetwork(
  error: unknown,
  asked: Asked,
  phase: Phase,
): UpstreamError | undefined {
  if (!(error instanceof Error) || isBug(error) || exhaustionOf(error) !== undefined) {
    return undefined
  }
  const verdict = judge(error, asked, phase)
  if (verdict === undefined) return undefined
  const [reason, what] = verdict
  return new UpstreamError(reason, `${asked.endpoint}: ${what}`, {
    endpoint: asked.endpoint,
    cause: error,
  })
}

function judge(error: Error, asked: Asked, phase: Phase): Verdict | undefined {
  if (error instanceof AddressRefused) return judgeAddress(error, asked)
  if (error instanceof TlsFileError) return ['tls', `configs."${asked.host}".tls: ${error.message}`]
  if (error instanceof TunnelError) return judgeTunnel(error, asked)
  const first = firstWithCode(error)
  const code = codeOf(first)
  return (
    judgeLookup(code, first, asked) ??
    judgeConnect(code, first, asked) ??
    judgeCertificate(code, first, asked) ??
    judgeTls(code, first, asked) ??
    judgeHttp(code, first, asked, phase) ??
    judgeEnd(code, asked, phase)
  )
}

function judgeTunnel(error: TunnelError, asked: Asked): Verdict | undefined {
  if (error.cause !== undefined && isBug(error.cause)) return undefined
  const cure = `check ${proxyKey(asked)}`
  return [error.timedOut ? 'timed-out' : 'refused', `${error.message}: ${cure}`]
}

function proxyKey({ host }: Asked): string {
  return `configs."${host}".proxy and HTTP_PROXY, HTTPS_PROXY`
}

/**
 * getaddrinfo's codes, and those of the library that asks `dns.servers` (ESERVFAIL, ETIMEOUT, ...).
 */
function judgeLookup(code: string, error: Error, asked: Asked): Verdict | undefined {
  const isLookup = /^(getaddrinfo|query)/.test(syscallOf(error))
  if (!isLookup && code !== 'ENOTFOUND' && !code.startsWith('EAI_')) return undefined
  const { hostname } = asked.url
  const cure = `check DNS and ${writtenIn(asked)}, or set configs."${asked.host}".resolve`
  return ['name-not-resolved', `cannot resolve ${hostname}: ${cure}`]
}

const LATE = new Set(['UND_ERR_CONNECT_TIMEOUT', 'ETIMEDOUT', 'ERR_SOCKET_CONNECTION_TIMEOUT'])
const NO_ROUTE = new Set([
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'EAFNOSUPPORT',
])
/** What a firewall on this machine, or a security module, answers a connection with. */
const FORBIDDEN = new Set(['EACCES', 'EPERM'])

function judgeConnect(code: string, error: Error, asked: Asked): Verdict | undefined {
  const { host } = asked.url
  if (LATE.has(code)) {
    const cure = `check firewalls and proxies on the way, or ${ELSEWHERE}`
    return ['timed-out', `no connection to ${host} in time: ${cure}`]
  }
  // A link-local address without its interface is EINVAL.
  const isInvalid = code === 'EINVAL' && syscallOf(error) === 'connect'
  if (NO_ROUTE.has(code) || isInvalid) {
    const cure = `check the network and configs."${asked.host}".resolve`
    return ['refused', `no route to ${host} (${code}): ${cure}`]
  }
  if (FORBIDDEN.has(code) && syscallOf(error) === 'connect') {
    const cure = 'check the firewall and the network policy of this machine'
    return ['refused', `connections to ${host} are forbidden here (${code}): ${cure}`]
  }
  if (code !== 'ECONNREFUSED') return undefined
  const cure = `check that it runs, and the port in ${writtenIn(asked)}`
  return ['refused', `${host} refuses connections: ${cure}`]
}

const ELSEWHERE = 'list another endpoint before it in mirrors.<registry>.endpoint'

const UNTRUSTED = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY',
  'CERT_SIGNATURE_FAILURE',
  'CERT_CHAIN_TOO_LONG',
  'CERT_UNTRUSTED',
  'CERT_REJECTED',
  'INVALID_CA',
])
/** The rest of what OpenSSL's verification finds, as Node names it; UNSPECIFIED is any other. */
const UNUSABLE =
  /^(INVALID_PURPOSE|PATH_LENGTH_EXCEEDED|HOSTNAME_MISMATCH|UNSPECIFIED|ERROR_IN_C(ERT|RL)_\w+|UNABLE_TO_(GET_CRL|DECRYPT_C(ERT|RL)_SIGNATURE)|CRL_(SIGNATURE_FAILURE|NOT_YET_VALID|HAS_EXPIRED))$/

function judgeCertificate(code: string, error: Error, asked: Asked): Verdict | undefined {
  const { host, hostname } = asked.url
  const key = `configs."${asked.host}"`
  if (UNTRUSTED.has(code)) {
    const cure = `set ${key}.tls.ca_file to its authority's certificate`
    return ['not-trusted', `the certificate of ${host} is not trusted (${code}): ${cure}`]
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const cure = `write a name that is in it in ${writtenIn(asked)}`
    return ['not-trusted', `the certificate of ${host} ${notFor(hostname, error)}: ${cure}`]
  }
  if (UNUSABLE.test(code)) {
    const what = `${code} ${lineOf(error)}`
    return ['not-trusted', `the certificate of ${host} cannot be used (${what}): have it renewed`]
  }
  if (!['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID', 'CERT_REVOKED'].includes(code)) return undefined
  return [
    'not-trusted',
    `the certificate of ${host} is not valid now (${code}): have it renewed, or set the clock right`,
  ]
}

function notFor(hostname: string, error: Error): string {
  const names = /altnames: ((?:DNS|IP Address):[\x20-\x7e]+)$/.exec(error.message)?.[1]
  const listed = names === undefined ? '' : `, but for ${names.slice(0, 200)}`
  return `is not for ${hostname}${listed}`
}

/**
 * OpenSSL's words for a TLS record that is none: the other side answered the handshake in plain
 * text.
 */
const NO_TLS =
  /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|RECORD_LAYER_FAILURE|UNEXPECTED_MESSAGE|BAD_RECORD_TYPE)$/
const WANTS_CERTIFICATE =
  /^ERR_SSL_.*(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|HANDSHAKE_FAILURE|UNKNOWN_CA|CERTIFICATE_UNKNOWN)$/

function judgeTls(code: string, error: Error, asked: Asked): Verdict | undefined {
  const { host } = asked.url
  const key = `configs."${asked.host}"`
  if (NO_TLS.test(code)) {
    return [
      'plain-http',
      `${host} speaks HTTP without TLS: write http://${host} in ${writtenIn(asked)}`,
    ]
  }
  if (WANTS_CERTIFICATE.test(code)) {
    const cure = `set ${key}.tls.cert_file and key_file`
    return ['tls', `${host} wants another client certificate (${code}): ${cure}`]
  }
  if (code !== 'EPROTO' && !/^ERR_(SSL|TLS|OSSL)_/.test(code)) return undefined
  return ['tls', `no TLS connection with ${host} (${code} ${lineOf(error)}): check ${key}.tls`]
}

function judgeHttp(code: string, error: Error, asked: Asked, phase: Phase): Verdict | undefined {
  const { host } = asked.url
  const cure = `check what answers there, and ${writtenIn(asked)}`
  if (code === 'CHANDLERY_NO_ANSWER') {
    return ['protocol', `${host} sends one 1xx status after the other and no answer: ${cure}`]
  }
  if (code === 'UND_ERR_HEADERS_OVERFLOW') {
    return ['protocol', `${host} sends response headers that are too long: ${cure}`]
  }
  // llhttp's own errors; undici does not give all of them a code.
  if (error.name !== 'HTTPParserError') return undefined
  if (phase === 'body')
    return ['cut', `${host} sent a body that breaks off (${lineOf(error)}): ${cure}`]
  // A TLS alert record (RFC 8446 5.1) in answer to plain text.
  if ('data' in error && typeof error.data === 'string' && error.data.startsWith('\x15\x03')) {
    return ['not-plain-http', notPlainHttp(asked)]
  }
  return ['protocol', `${host} does not speak HTTP (${lineOf(error)}): ${cure}`]
}

/** A connection that ended, however Node and undici notice it. */
const ENDED = new Set([
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ENETRESET',
  'ENOTCONN',
  'ESHUTDOWN',
  'UND_ERR_SOCKET',
  'ERR_SOCKET_CLOSED',
  'ERR_SOCKET_CLOSED_BEFORE_CONNECTION',
  'ERR_STREAM_DESTROYED',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_STREAM_WRITE_AFTER_END',
])

function judgeEnd(code: string, asked: Asked, phase: Phase): Verdict | undefined {
  const { host } = asked.url
  const cure = `check that server and the way there, or ${ELSEWHERE}`
  if (code === 'UND_ERR_HEADERS_TIMEOUT')
    return ['timed-out', `no answer from ${host} in time: ${cure}`]
  if (code === 'UND_ERR_BODY_TIMEOUT')
    return ['timed-out', `${host} stopped sending in the middle: ${cure}`]
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH')
    return ['cut', `${host} sent less than it announced: ${cure}`]
  if (phase === 'body' && code === 'UND_ERR_SOCKET')
    return ['cut', `${host} closed in the middle: ${cure}`]
  // Only the end of the server closes its pools while something runs on them.
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED')
    return ['reset', `the connection to ${host} was closed because the server is shutting down`]
  if (!ENDED.has(code)) return undefined
  return ['reset', `${host} broke the connection off (${code}): ${cure}`]
}

function judgeAddress({ hostname }: AddressRefused, asked: Asked): Verdict {
  if (!asked.redirected) {
    const cure = 'list the registry under mirrors if that is meant ("*" is for public ones alone)'
    return ['not-public', `${hostname} is not at a public address: ${cure}`]
  }
  const cure = `set configs."${asked.host}".resolve to its addresses if that is meant`
  return ['redirect-refused', `redirects to ${hostname}, which is at a private address: ${cure}`]
}

/** With several addresses tried, the failure of the first that has a code. */
function firstWithCode(error: Error): Error {
  const tried: unknown[] = error instanceof AggregateError ? error.errors : []
  const errors = tried.filter((each) => each instanceof Error)
  return errors.find((each) => codeOf(each) !== '') ?? error
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : ''
}

function syscallOf(error: Error): string {
  return 'syscall' in error && typeof error.syscall === 'string' ? error.syscall : ''
}

function lineOf(error: Error): string {
  return error.message.replaceAll(/\s+/g, ' ').slice(0, 160)
}
