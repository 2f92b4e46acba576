// What can go wrong with an answer of a test host, and which requests it happens to.
import type { Digest } from '../../src/oci/digest.ts'
import type { TestContent } from './content.ts'

export type RequestKind =
  | 'ping'
  | 'manifest'
  | 'blob'
  | 'tags'
  | 'referrers'
  | 'catalog'
  | 'token'
  | 'other'

/** Which requests a fault happens to; everything given must hold. */
export interface FaultMatch {
  readonly kind?: RequestKind
  readonly method?: string
  readonly repository?: string
  /** The digest asked for, or that of the manifest behind the tag asked for. */
  readonly digest?: Digest
  /** The tag or digest as it stands in the path. */
  readonly reference?: string
  /** Only the nth (from 1) of the requests that match the rest. */
  readonly nth?: number | readonly number[]
  /** Only the nth (from 1) of the requests that match the rest, and those after it. */
  readonly from?: number
}

/** What happens; several can be combined where that makes sense. */
export interface Fault {
  readonly match?: FaultMatch
  /** The fault wears off after so many requests. */
  readonly times?: number
  /** Wait before the headers. */
  readonly delayMs?: number
  /** This status instead of the content, with `body` (empty if none is given) and `headers`. */
  readonly status?: number
  readonly body?: string | Uint8Array
  /** Set these headers, whatever they would have been. */
  readonly headers?: Readonly<Record<string, string>>
  /** Leave these headers out (lower case). */
  readonly omitHeaders?: readonly string[]
  /** Answer 200 with everything although a Range was asked for. */
  readonly ignoreRange?: boolean
  /** The Content-Length to announce, whatever is sent; 'none': chunked, without any. */
  readonly announcedLength?: number | 'none'
  /** Send so many bytes of body: the rest is missing, or `x` is appended. */
  readonly bodyLength?: number
  /** So many bytes at a time, with a pause before each. */
  readonly drip?: { readonly bytes: number; readonly everyMs: number }
  /** Flip the byte at this offset of the content (not of the response). */
  readonly corruptAt?: number
  /** Close the connection (FIN) after so many bytes of this body. */
  readonly cutAfter?: number
  /** Reset the connection (RST) after so many bytes of this body; -1: before the headers. */
  readonly resetAfter?: number
  /** Send nothing more, keeping the connection, from here until `release()`. */
  readonly stall?: 'headers' | { readonly afterBytes: number }
  /** 307 to a signed URL of this host, or to this URL as it is. */
  readonly redirect?: SigningHost | string
}

/** A host that signs URLs of its own, as a TestStorageHost does. */
export interface SigningHost {
  signedUrl(digest: Digest, content: TestContent): string
}

/** A fault that was set. */
export interface ActiveFault {
  readonly fault: Fault
  /** Requests it has happened to so far. */
  readonly hits: number
  /** Ends the stalls of this fault, those to come too. */
  release(): void
  /** The fault happens no more; stalls go on. */
  remove(): void
  /** Resolves when the stall or drip is over for those waiting. */
  readonly released: Promise<void>
}

interface Subject {
  readonly kind: RequestKind
  readonly method: string
  readonly repository?: string | undefined
  readonly reference?: string | undefined
  readonly digest?: Digest | undefined
}

/** The faults of one host, in the order in which they were set; the first that applies is taken. */
export class Faults {
  #rules: Rule[] = []

  add(fault: Fault): ActiveFault {
    const rule = new Rule(fault, () => {
      this.#rules = this.#rules.filter((other) => other !== rule)
    })
    this.#rules.push(rule)
    return rule
  }

  clear(): void {
    for (const rule of this.#rules) rule.release()
    this.#rules = []
  }

  /** The fault of this request. Every rule counts the request, whichever is taken. */
  take(subject: Subject): ActiveFault | undefined {
    const due = this.#rules.filter((rule) => rule.counts(subject))
    return due.find((rule) => rule.take())
  }
}

class Rule implements ActiveFault {
  readonly fault: Fault
  readonly remove: () => void
  readonly released: Promise<void>
  readonly release: () => void
  hits = 0
  #seen = 0

  constructor(fault: Fault, remove: () => void) {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.fault = fault
    this.remove = remove
    this.released = promise
    this.release = resolve
  }

  counts(subject: Subject): boolean {
    const { nth, from = 1, ...fields } = this.fault.match ?? {}
    const actual = new Map(Object.entries(subject))
    for (const [field, value] of Object.entries(fields)) {
      if (value !== undefined && actual.get(field) !== value) return false
    }
    this.#seen++
    if (nth === undefined) return this.#seen >= from
    return typeof nth === 'number' ? nth === this.#seen : nth.includes(this.#seen)
  }

  take(): boolean {
    if (this.hits >= (this.fault.times ?? Infinity)) return false
    this.hits++
    return true
  }
}
