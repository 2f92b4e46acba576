// The faults that a response of a test host can have, and the requests that they apply to.
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

/** Which requests a fault applies to. All given conditions must hold. */
export interface FaultMatch {
  readonly kind?: RequestKind
  readonly method?: string
  readonly repository?: string
  /** The requested digest, or the digest of the manifest that the requested tag points to. */
  readonly digest?: Digest
  /** The tag or digest in the path. */
  readonly reference?: string
  /** Only the nth (from 1) of the requests that meet the other conditions. */
  readonly nth?: number | readonly number[]
  /** The nth (from 1) of the requests that meet the other conditions, and all later ones. */
  readonly from?: number
}

/** What a fault does. Several can be combined if that makes sense. */
export interface Fault {
  readonly match?: FaultMatch
  /** The fault ends after this many requests. */
  readonly times?: number
  /** Wait before the headers. */
  readonly delayMs?: number
  /** This status instead of the content, with `body` (empty if none is given) and `headers`. */
  readonly status?: number
  readonly body?: string | Uint8Array
  /** Override these headers. */
  readonly headers?: Readonly<Record<string, string>>
  /** Leave these headers out (lower case). */
  readonly omitHeaders?: readonly string[]
  /** Ignore a Range header: answer 200 with the whole content. */
  readonly ignoreRange?: boolean
  /** Announce this Content-Length, whatever is sent. 'none': a chunked response without one. */
  readonly announcedLength?: number | 'none'
  /** Send this many bytes of body: the rest is missing, or `x` is appended. */
  readonly bodyLength?: number
  /** Send this many bytes at a time, with a pause before each. */
  readonly drip?: { readonly bytes: number; readonly everyMs: number }
  /** Flip the byte at this offset of the content (not of the response). */
  readonly corruptAt?: number
  /** Close the connection (FIN) after this many bytes of this body. */
  readonly cutAfter?: number
  /** Reset the connection (RST) after this many bytes of this body; -1: before the headers. */
  readonly resetAfter?: number
  /** Stop sending at this byte, with the connection open, until `release()`. */
  readonly stall?: 'headers' | { readonly afterBytes: number }
  /** Redirect (307) to a signed URL of this host, or to exactly this URL. */
  readonly redirect?: SigningHost | string
}

/** A host that signs its URLs, such as a TestStorageHost. */
export interface SigningHost {
  signedUrl(digest: Digest, content: TestContent): string
}

/** A fault that has been set. */
export interface ActiveFault {
  readonly fault: Fault
  /** How many requests it has applied to so far. */
  readonly hits: number
  /** Ends the stalls of this fault, current and future ones. */
  release(): void
  /** Ends the fault for new requests. Stalled responses stay stalled. */
  remove(): void
  /** Resolves when the stall or drip is over. */
  readonly released: Promise<void>
}

interface Subject {
  readonly kind: RequestKind
  readonly method: string
  readonly repository?: string | undefined
  readonly reference?: string | undefined
  readonly digest?: Digest | undefined
}

/** The faults of one host, in the order in which they were set. The first that applies is used. */
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

  /**
   * Returns the fault for a request. Every rule counts the request, even if another one is used.
   */
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
