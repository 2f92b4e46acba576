// The faults of the matrix, and how a test host gets them.
import type { Fault } from '../support/faults.ts'

/** The response that has the fault. */
export interface Subject {
  /** The length of its body in bytes. */
  readonly size: number
  /** The offset of a byte that can be changed without making the body unparseable. */
  readonly soft: number
}

export interface Trouble {
  /** The fault of the host's responses. */
  readonly fault?: (subject: Subject) => Fault
  /** Why the host cannot be reached at all. */
  readonly host?: 'refused' | 'unknown' | 'untrusted'
  /** Whether it affects only requests for the second half. */
  readonly ranged?: true
  /** Which of the URLs that the registry redirects to have expired: all, or only the first. */
  readonly urls?: 'expired' | 'expired once'
  /** Whether a token is valid for one request only. */
  readonly tokens?: 'expire'
  /** Whether a pull with this fault mostly waits, for a time limit or the end of a pause. */
  readonly waits?: true
}

const JSON_TYPE = { 'content-type': 'application/json' }
const HTML_TYPE = { 'content-type': 'text/html' }
const PAGE = '<!doctype html><html><body>Sorry</body></html>'
/** A port on which nothing listens. */
const DEAD = 'http://127.77.255.1:1/blob?signature=secret'

const half = ({ size }: Subject) => Math.floor(size / 2)
/** A time after the last request of the matrix. */
const inTenMinutes = () => new Date(Date.now() + 600_000).toUTCString()

export const TROUBLES: Readonly<Record<string, Trouble>> = {
  '403 JSON': status(403, '{"errors":[{"code":"DENIED","message":"no"}]}', JSON_TYPE),
  '403 HTML': status(403, PAGE, HTML_TYPE),
  '404': status(404, '{"errors":[{"code":"NAME_UNKNOWN"}]}', JSON_TYPE),
  '401': status(401, '{"errors":[{"code":"UNAUTHORIZED"}]}', JSON_TYPE),
  '429 with seconds': status(429, '', { 'retry-after': '60' }),
  '429 with a date': {
    fault: () => ({ status: 429, body: '', headers: { 'retry-after': inTenMinutes() } }),
  },
  '429 without a time': status(429, ''),
  '429 with a second, once': {
    fault: () => ({ status: 429, body: '', headers: { 'retry-after': '1' }, times: 1 }),
    waits: true,
  },
  '500': status(500, ''),
  '502 HTML': status(502, PAGE, HTML_TYPE),
  '503': status(503, 'upstream connect error'),
  '503 with seconds': status(503, '', { 'retry-after': '60' }),
  '200 HTML': status(200, PAGE, HTML_TYPE),
  refused: { host: 'refused' },
  reset: { fault: () => ({ resetAfter: -1 }) },
  'DNS failure': { host: 'unknown' },
  'TLS failure': { host: 'untrusted' },
  'hang before headers': { fault: () => ({ stall: 'headers' }), waits: true },
  'stall before the first byte': {
    fault: () => ({ stall: { afterBytes: 0 } }),
    waits: true,
  },
  'stall in body': {
    fault: (subject) => ({ stall: { afterBytes: half(subject) } }),
    waits: true,
  },
  'cut at byte 0': { fault: () => ({ cutAfter: 0 }) },
  'cut at byte k': { fault: (subject) => ({ cutAfter: half(subject) }) },
  'corrupt byte': { fault: ({ soft }) => ({ corruptAt: soft }) },
  'corrupt byte at the end': { fault: ({ size }) => ({ corruptAt: size - 1 }) },
  'short body': {
    fault: (subject) => ({ bodyLength: half(subject), announcedLength: half(subject) }),
  },
  'short body, no length': {
    fault: (subject) => ({ bodyLength: half(subject), announcedLength: 'none' }),
  },
  'long body': { fault: ({ size }) => ({ bodyLength: size + 7, announcedLength: size + 7 }) },
  'long body, no length': {
    fault: ({ size }) => ({ bodyLength: size + 7, announcedLength: 'none' }),
  },
  'wrong Content-Range: place': {
    fault: ({ size }) => ({ headers: { 'content-range': `bytes 1-${size / 2}/${size}` } }),
    ranged: true,
  },
  'wrong Content-Range: size': {
    fault: ({ size }) => {
      const [start, end] = [size / 2, size - 1]
      return { headers: { 'content-range': `bytes ${start}-${end}/${size + 1}` } }
    },
    ranged: true,
  },
  'redirect to a dead host': status(307, '', { location: DEAD }),
  'expired signed URL': { urls: 'expired' },
  'expired signed URL, once': { urls: 'expired once' },
  'expired token in mid-blob': {
    fault: (subject) => ({ stall: { afterBytes: half(subject) } }),
    tokens: 'expire',
    waits: true,
  },
}

export function troubleOf(fault: string): Trouble {
  const trouble = TROUBLES[fault]
  if (trouble === undefined) throw new Error(`no such fault: ${fault}`)
  return trouble
}

function status(code: number, body: string, headers: Record<string, string> = {}): Trouble {
  return { fault: () => ({ status: code, body, headers }) }
}
