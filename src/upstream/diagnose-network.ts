// Which kind of failure a network error is, and what to do about it: pure, one row per error code
// of Node, OpenSSL, llhttp and undici.
import { notPlainHttp, writtenIn } from './diagnose.ts'
import type { Asked } from './diagnose.ts'
import { UpstreamError } from './failure.ts'
import type { FailureReason } from './failure.ts'
import { AddressRefused } from './lookup.ts'
import { TunnelError } from './proxy-handshake.ts'
import { TlsFileError } from './tls.ts'

/** How far the exchange had come: no answer yet, or within its body. */
export type Phase = 'head' | 'body'

type Verdict = readonly [reason: FailureReason, what: string]

/** What it means that an exchange broke. Errors it does not know are `reset`: worth another try. */
export function diagnoseNetwork(error: Error, asked: Asked, phase: Phase): UpstreamError {
  const [reason, what] = judge(error, asked, phase)
  return new UpstreamError(reason, `${asked.endpoint}: ${what}`, {
    endpoint: asked.endpoint,
    cause: error,
  })
}

function judge(error: Error, asked: Asked, phase: Phase): Verdict {
  const code = codeOf(error)
  if (error instanceof AddressRefused) return judgeAddress(error, asked)
  if (error instanceof TlsFileError) return ['tls', `configs."${asked.host}".tls: ${error.message}`]
  if (error instanceof TunnelError) {
    const cure = `check ${proxyKey(asked)}`
    return [error.isLate ? 'timed-out' : 'refused', `${error.message}: ${cure}`]
  }
  return (
    judgeConnect(code, asked) ??
    judgeCertificate(code, error, asked) ??
    judgeTls(code, error, asked) ??
    judgeHttp(code, error, asked, phase) ??
    judgeEnd(code, asked, phase)
  )
}

function proxyKey({ host }: Asked): string {
  return `configs."${host}".proxy and HTTP_PROXY, HTTPS_PROXY`
}

function judgeConnect(code: string, asked: Asked): Verdict | undefined {
  const { hostname, host } = asked.url
  const key = `configs."${asked.host}"`
  if (code === 'ENOTFOUND' || code.startsWith('EAI_')) {
    const cure = `check DNS and ${writtenIn(asked)}, or set ${key}.resolve`
    return ['name-not-resolved', `cannot resolve ${hostname}: ${cure}`]
  }
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT') {
    const cure = `check firewalls and proxies on the way, or ${ELSEWHERE}`
    return ['timed-out', `no connection to ${host} in time: ${cure}`]
  }
  if (['EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL'].includes(code)) {
    return ['refused', `no route to ${host} (${code}): check the network and ${key}.resolve`]
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

/** OpenSSL's words for a TLS record that is none: the other side answered the handshake in plain text. */
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

function judgeEnd(code: string, asked: Asked, phase: Phase): Verdict {
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
  const broke = `${host} broke the connection off${code === '' ? '' : ` (${code})`}`
  return ['reset', `${broke}: ${cure}`]
}

function judgeAddress({ hostname }: AddressRefused, asked: Asked): Verdict {
  if (!asked.redirected) {
    const cure = 'list the registry under mirrors if that is meant ("*" is for public ones alone)'
    return ['not-public', `${hostname} is not at a public address: ${cure}`]
  }
  const cure = `set configs."${asked.host}".resolve to its addresses if that is meant`
  return ['redirect-refused', `redirects to ${hostname}, which is at a private address: ${cure}`]
}

/** With several addresses tried, the code of the first failure that has one. */
function codeOf(error: Error): string {
  if ('code' in error && typeof error.code === 'string') return error.code
  const tried: unknown[] = error instanceof AggregateError ? error.errors : []
  const codes = tried.map((inner) => (inner instanceof Error ? codeOf(inner) : ''))
  return codes.find((code) => code !== '') ?? ''
}

function lineOf(error: Error): string {
  return error.message.replaceAll(/\s+/g, ' ').slice(0, 160)
}
