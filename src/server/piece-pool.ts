// The buffers that responses are copied through. They are recycled, and their total over all connections
// is bounded. The pool decides how much memory each reader gets; the sender measures how fast readers are.

const KIB = 1024
const MIB = 1024 * KIB

/** The size of a reader's first pieces, in bytes. */
export const BASE_PIECE = 64 * KIB
/** The size that the pieces of a fast reader grow to, in bytes. */
export const LARGEST_PIECE = 512 * KIB
const LEAN_PIECE = 16 * KIB
const GROWN_PIECES = [LARGEST_PIECE, 256 * KIB, 128 * KIB]

/**
 * What is known about a reader. `new`: nothing yet, since all it took may still be in socket buffers.
 * `fast`: it took more than socket buffers hold, and its last piece drained at once. `slow`: its last
 * piece did not drain at once.
 */
export type Standing = 'new' | 'fast' | 'slow'

/** Upper bounds in bytes. The pool lends at most the sum of base, lean and growth bytes. */
export interface PoolLimits {
  readonly baseBytes: number
  /** Lent in pieces of 16 KiB when `baseBytes` is used up. */
  readonly leanBytes: number
  /** The part of `leanBytes` reserved for fast readers, so that slow readers never block them. */
  readonly reserveBytes: number
  readonly growthBytes: number
  /** The most bytes of idle buffers kept for reuse. */
  readonly idleBytes: number
}

const DEFAULT_LIMITS: PoolLimits = {
  baseBytes: 32 * MIB,
  leanBytes: 32 * MIB,
  reserveBytes: 2 * MIB,
  growthBytes: 24 * MIB,
  idleBytes: 8 * MIB,
}

type Budget = 'base' | 'lean' | 'growth'

/** A buffer on loan. Release it exactly once, when the kernel has taken its bytes. */
export interface Piece {
  readonly bytes: Buffer
  readonly budget: Budget
}

interface Waiter {
  readonly wanted: number
  readonly standing: Standing
  readonly grant: (piece: Piece) => void
}

export class PiecePool {
  readonly #limits: PoolLimits
  readonly #inUse: Record<Budget, number> = { base: 0, lean: 0, growth: 0 }
  readonly #idle = new Map<number, Buffer[]>()
  #idleBytes = 0
  #peak = 0
  // Each queue is first in, first out. Slow readers wait behind all others.
  readonly #waiting = new Set<Waiter>()
  readonly #slowWaiting = new Set<Waiter>()

  constructor(limits: Partial<PoolLimits> = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits }
  }

  /** Returns a piece for about `wanted` bytes, or undefined if the reader has to wait. */
  take(wanted: number, standing: Standing): Piece | undefined {
    if (wanted <= LEAN_PIECE) {
      return this.#tryLean(standing) ?? this.#tryBase(standing)
    }
    return this.#tryGrowth(wanted, standing) ?? this.#tryBase(standing) ?? this.#tryLean(standing)
  }

  /** Like `take`, but waits in turn until memory is free. Rejects with the signal's reason. */
  wait(wanted: number, standing: Standing, signal: AbortSignal): Promise<Piece> {
    const queue = standing === 'slow' ? this.#slowWaiting : this.#waiting
    return new Promise((resolve, reject) => {
      signal.throwIfAborted()
      const leave = () => {
        queue.delete(waiter)
        reject(signal.reason)
      }
      const grant = (piece: Piece) => {
        signal.removeEventListener('abort', leave)
        resolve(piece)
      }
      const waiter = { wanted, standing, grant }
      queue.add(waiter)
      signal.addEventListener('abort', leave, { once: true })
    })
  }

  release(piece: Piece): void {
    const size = piece.bytes.length
    this.#inUse[piece.budget] -= size
    if (this.#idleBytes + size <= this.#limits.idleBytes) {
      this.#idleOf(size).push(piece.bytes)
      this.#idleBytes += size
    }
    this.#grantNext(this.#waiting)
    this.#grantNext(this.#slowWaiting)
  }

  /** Bytes on loan, the highest total so far, idle bytes, and the number of waiting readers. */
  get usage() {
    return {
      ...this.#inUse,
      inUse: this.#total(),
      peak: this.#peak,
      idle: this.#idleBytes,
      waiting: this.#waiting.size + this.#slowWaiting.size,
    }
  }

  // New readers get at most half of the growth budget: a crowd of slow readers looks fast until the socket
  // buffers are full, and then keeps what it was lent.
  #tryGrowth(wanted: number, standing: Standing): Piece | undefined {
    if (wanted <= BASE_PIECE || standing === 'slow') return undefined
    const { growthBytes } = this.#limits
    const limit = standing === 'fast' ? growthBytes : growthBytes / 2
    const size = GROWN_PIECES.find(
      (each) => each / 2 < wanted && this.#inUse.growth + each <= limit,
    )
    return size === undefined ? undefined : this.#lend('growth', size)
  }

  #tryBase(standing: Standing): Piece | undefined {
    const { baseBytes } = this.#limits
    const limit = standing === 'slow' ? baseBytes / 2 : baseBytes
    if (this.#inUse.base + BASE_PIECE > limit) return undefined
    return this.#lend('base', BASE_PIECE)
  }

  #tryLean(standing: Standing): Piece | undefined {
    const { leanBytes, reserveBytes } = this.#limits
    const limit = standing === 'fast' ? leanBytes : leanBytes - reserveBytes
    if (this.#inUse.lean + LEAN_PIECE > limit) return undefined
    return this.#lend('lean', LEAN_PIECE)
  }

  #lend(budget: Budget, size: number): Piece {
    this.#inUse[budget] += size
    this.#peak = Math.max(this.#peak, this.#total())
    const idle = this.#idleOf(size).pop()
    if (idle) this.#idleBytes -= size
    return { bytes: idle ?? Buffer.allocUnsafeSlow(size), budget }
  }

  #grantNext(queue: Set<Waiter>): void {
    for (const waiter of queue) {
      const piece = this.take(waiter.wanted, waiter.standing)
      if (piece === undefined) return
      queue.delete(waiter)
      waiter.grant(piece)
    }
  }

  #idleOf(size: number): Buffer[] {
    let idle = this.#idle.get(size)
    if (idle === undefined) this.#idle.set(size, (idle = []))
    return idle
  }

  #total(): number {
    return this.#inUse.base + this.#inUse.lean + this.#inUse.growth
  }
}
