// The memory of all blobs that pass through: one hard bound over all of them. A blob is granted some before
// it fetches anything. While there is none left it waits in a queue, and gets what others give back: those
// that are done, those whose readers have stopped, and in the end those that have had it for long enough.
import { LEAST_BYTES, MOST_BYTES } from './window-zones.ts'

const MIB = 1024 * 1024
/** How much all of them may take together, in bytes. */
const ALL_BYTES = 256 * MIB
/** Memory that others wait for is taken from whoever has had it for this long, in milliseconds. */
const TURN_MS = 30_000

/** A blob that passes through. */
export interface MemoryHolder {
  /** Called soon after it was granted memory. */
  granted(): void
  /** Called when its memory is taken back. It must have dropped what it holds when this returns. */
  revoked(): void
}

export interface MemoryUse {
  /** None of its readers goes on: its memory may be taken back at once. */
  readonly isIdle: boolean
  /** It can fetch again what it drops. If not, its memory is left to it until it is idle. */
  readonly isRanged: boolean
  /** Milliseconds. */
  readonly now: number
}

interface Grant {
  bytes: number
  /** When it was first used, in milliseconds. */
  since: number | undefined
  /** It is taken back when somebody waits. */
  isRevocable: boolean
}

export class PassingMemory {
  readonly #allBytes: number
  #freeBytes: number
  /** The oldest first. */
  readonly #grants = new Map<MemoryHolder, Grant>()
  /** The longest waiting first. */
  readonly #waiting = new Set<MemoryHolder>()

  constructor(allBytes = ALL_BYTES) {
    this.#allBytes = Math.max(allBytes, LEAST_BYTES)
    this.#freeBytes = this.#allBytes
  }

  /** How many bytes are granted now. */
  get bytes(): number {
    return this.#allBytes - this.#freeBytes
  }

  /**
   * Returns how many bytes the holder may use now, at least LEAST_BYTES, or 0 while it waits for its turn.
   * To be called again whenever its readers have gone on: the number follows how many others there are.
   */
  use(holder: MemoryHolder, use: MemoryUse): number {
    const grant = this.#grants.get(holder)
    if (grant) this.#renew(grant, use)
    if (!this.#grants.has(holder)) this.#ask(holder, use)
    return Math.min(this.#grants.get(holder)?.bytes ?? 0, this.#aimBytes)
  }

  /** Gives back all but `bytes` of what the holder was granted, or all but LEAST_BYTES. */
  keep(holder: MemoryHolder, bytes: number): void {
    const grant = this.#grants.get(holder)
    const excess = (grant?.bytes ?? 0) - Math.max(LEAST_BYTES, bytes)
    if (!grant || excess <= 0) return
    grant.bytes -= excess
    this.#freeBytes += excess
    this.#handOut()
  }

  /** What the holder has is of little use from now on: it is taken back when somebody waits. */
  retire(holder: MemoryHolder): void {
    this.#waiting.delete(holder)
    const grant = this.#grants.get(holder)
    if (grant) grant.isRevocable = true
    this.#handOut()
  }

  /** Gives everything back. The holder must hold nothing any more. */
  leave(holder: MemoryHolder): void {
    this.#waiting.delete(holder)
    this.#freeBytes += this.#grants.get(holder)?.bytes ?? 0
    this.#grants.delete(holder)
    this.#handOut()
  }

  /** What each would have if all had equally much. A grant grows or shrinks to it. */
  get #aimBytes(): number {
    const each = this.#allBytes / (this.#grants.size + this.#waiting.size)
    return Math.max(LEAST_BYTES, Math.min(MOST_BYTES, each))
  }

  #renew(grant: Grant, { isIdle, isRanged, now }: MemoryUse): void {
    grant.since ??= now
    grant.isRevocable = isIdle || (isRanged && now - grant.since >= TURN_MS)
    if (!isIdle && this.#waiting.size === 0) {
      const more = Math.max(0, Math.min(this.#aimBytes - grant.bytes, this.#freeBytes))
      grant.bytes += more
      this.#freeBytes -= more
    }
    this.#handOut()
  }

  #ask(holder: MemoryHolder, { isIdle }: MemoryUse): void {
    if (isIdle) this.#waiting.delete(holder)
    else this.#waiting.add(holder)
    this.#handOut()
  }

  #handOut(): void {
    for (const holder of this.#waiting) {
      while (this.#freeBytes < LEAST_BYTES) if (!this.#revokeOne()) return
      this.#waiting.delete(holder)
      this.#freeBytes -= LEAST_BYTES
      this.#grants.set(holder, { bytes: LEAST_BYTES, since: undefined, isRevocable: false })
      // Not at once: whoever is told asks for more here.
      queueMicrotask(() => holder.granted())
    }
  }

  #revokeOne(): boolean {
    for (const [holder, { bytes, isRevocable }] of this.#grants) {
      if (!isRevocable) continue
      holder.revoked()
      this.#grants.delete(holder)
      this.#freeBytes += bytes
      return true
    }
    return false
  }
}
