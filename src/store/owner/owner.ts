// One server owns a directory. Each server that wants it puts a claim of its own name into `<directory>/owner/`
// and then looks for others: of two, the later one sees the earlier and withdraws, so there is never a file
// to fight about. A claim whose server is dead is cleared away by the next owner.

import { mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ClaimWatch } from './claim-watch.ts'
import { findPlace, isAlive, makeClaim, readClaim } from './claim.ts'
import type { Claim, Place } from './claim.ts'
import { asError, explainStorageError, isAbsent } from '../disk/errno.ts'
import { OWNER_DIRECTORY } from '../layout.ts'
import { Waiting, WaitingNote } from './waiting.ts'

export interface OwnershipOptions {
  readonly signal?: AbortSignal
  /** Another server owns the directory, and this one waits: called when that is found, and when it is yet another. */
  readonly onWaiting?: (owner: Claim) => void
  /**
   * The claim is gone: somebody took this server for dead, or removed it by hand. Stop writing. Where
   * the whole directory was emptied and nobody else is there, it is staked again instead.
   */
  readonly onLost?: () => void
  /** A heartbeat that could not be written; it is tried again. */
  readonly onError?: (error: Error) => void
  /** Default 5 s. */
  readonly heartbeatMs?: number
  /** A claim from elsewhere that does not change for this long is dead. Default 15 s; the same for all servers. */
  readonly staleMs?: number
  /** How often a waiting server looks, besides being told where the file system does. Default 500 ms. */
  readonly pollMs?: number
  /** For tests: as if this process ran elsewhere. Default: found in /proc. */
  readonly place?: Place | 'unknown'
}

export interface Ownership {
  readonly claim: Claim
  /**
   * Whether another server waits for the directory. The first call asks for it: who still waits says so
   * again, at once or within `pollMs`.
   */
  isWanted(): Promise<boolean>
  /** Gives the directory to the next. Safe to call twice. */
  release(): Promise<void>
}

/**
 * Waits until the directory is this server's. While another one lives, nothing is written but an empty file
 * that says somebody waits. Rejects when aborted.
 */
export async function takeOwnership(
  directory: string,
  self: { readonly listen: string },
  options: OwnershipOptions = {},
): Promise<Ownership> {
  try {
    return await new Claims(directory, options).take(self.listen)
  } catch (error) {
    options.signal?.throwIfAborted()
    throw explainStorageError(error, directory)
  }
}

const CLAIM_NAME = /^[0-9a-f-]{36}\.json$/

class Claims {
  readonly #directory: string
  readonly #options: OwnershipOptions
  /** Since when, by this process's own clock, each claim has not changed. */
  readonly #pulses = new Map<string, { pulse: string; sinceMs: number }>()
  #place: Place | undefined
  #announced = ''
  readonly #note: WaitingNote

  constructor(directory: string, options: OwnershipOptions) {
    this.#directory = join(directory, OWNER_DIRECTORY)
    this.#options = options
    this.#note = new WaitingNote(this.#directory)
  }

  async take(listen: string): Promise<Ownership> {
    try {
      return await this.#take(listen)
    } finally {
      await this.#note.remove()
    }
  }

  async #take(listen: string): Promise<Ownership> {
    const { place, signal, pollMs = 500 } = this.#options
    this.#place = place === 'unknown' ? undefined : (place ?? (await findPlace()))
    using watch = new ClaimWatch(this.#directory)
    for (;;) {
      signal?.throwIfAborted()
      watch.start()
      if (!(await this.#isFree())) {
        await this.#note.put()
        await watch.wait(pollMs * (0.5 + Math.random()), signal)
      } else {
        const claim = await makeClaim(listen, this.#place)
        if (await this.#stake(claim, signal)) {
          const again = () => this.#stakeAgain(claim)
          return new HeldClaim(this.#pathOf(claim), claim, { ...this.#options, again })
        }
        // Not in step: two that saw each other and withdrew must not meet again.
        await sleep(pollMs * (0.5 + Math.random()), undefined, { ...(signal && { signal }) })
      }
    }
  }

  /** Claims, and looks again: somebody may have done the same. Once the signal fires it leaves no claim. */
  async #stake(claim: Claim, signal?: AbortSignal): Promise<boolean> {
    const path = this.#pathOf(claim)
    let isOurs = false
    try {
      await mkdir(this.#directory, { recursive: true })
      signal?.throwIfAborted()
      await writeFile(path, `${JSON.stringify(claim, undefined, 2)}\n`, { flag: 'wx' })
      const isFree = await this.#isFree(claim)
      signal?.throwIfAborted()
      if (isFree) await this.#clearOthers(claim)
      signal?.throwIfAborted()
      isOurs = isFree
    } finally {
      if (!isOurs) await rm(path, { force: true }).catch(() => {}) // an error before this one says more
    }
    return isOurs
  }

  /** False: another has the directory, or only the claim was taken away. */
  async #stakeAgain(claim: Claim): Promise<boolean> {
    const isEmptied = await readdir(this.#directory).then(() => false, isAbsent)
    return isEmptied && (await this.#stake(claim))
  }

  async #isFree(own?: Claim): Promise<boolean> {
    for (const name of await this.#names()) {
      if (name !== (own && nameOf(own)) && !(await this.#isDead(name))) return false
    }
    return true
  }

  async #isDead(name: string): Promise<boolean> {
    const seen = await readClaim(join(this.#directory, name))
    if (seen === undefined) return true
    const alive = seen.claim && (await isAlive(seen.claim, this.#place))
    const dead = alive === undefined ? this.#hasNoPulse(name, seen.pulse) : !alive
    if (!dead && seen.claim !== undefined) this.#announce(seen.claim)
    return dead
  }

  /** Never compares two clocks: what counts is that nothing changes while this one runs. */
  #hasNoPulse(name: string, pulse: string): boolean {
    const nowMs = performance.now()
    const last = this.#pulses.get(name)
    if (last?.pulse === pulse) return nowMs - last.sinceMs >= (this.#options.staleMs ?? 15_000)
    this.#pulses.set(name, { pulse, sinceMs: nowMs })
    return false
  }

  #announce(claim: Claim): void {
    if (claim.id === this.#announced) return
    this.#announced = claim.id
    this.#options.onWaiting?.(claim)
  }

  /** The dead, and those who will see this claim and withdraw. */
  async #clearOthers(own: Claim): Promise<void> {
    for (const name of await this.#names()) {
      if (name !== nameOf(own)) await rm(join(this.#directory, name), { force: true })
    }
  }

  async #names(): Promise<string[]> {
    try {
      return (await readdir(this.#directory)).filter((name) => CLAIM_NAME.test(name))
    } catch (error) {
      if (isAbsent(error)) return []
      throw error
    }
  }

  #pathOf(claim: Claim): string {
    return join(this.#directory, nameOf(claim))
  }
}

interface HeldClaimOptions extends OwnershipOptions {
  /** Claims the directory anew where it was emptied. */
  readonly again: () => Promise<boolean>
}

class HeldClaim implements Ownership {
  readonly claim: Claim
  readonly #path: string
  readonly #options: HeldClaimOptions
  readonly #timer: NodeJS.Timeout
  readonly #waiting: Waiting
  #stopped = false
  #isClaiming = false

  constructor(path: string, claim: Claim, options: HeldClaimOptions) {
    this.claim = claim
    this.#path = path
    this.#waiting = new Waiting(dirname(path))
    this.#options = options
    this.#timer = setInterval(() => void this.#beat(), options.heartbeatMs ?? 5000)
    this.#timer.unref()
  }

  async isWanted(): Promise<boolean> {
    return await this.#waiting.isAnybody()
  }

  async release(): Promise<void> {
    this.#stop()
    await rm(this.#path, { force: true })
  }

  async #beat(): Promise<void> {
    try {
      const now = new Date()
      await utimes(this.#path, now, now)
    } catch (error) {
      if (this.#stopped) return
      if (!isAbsent(error)) return this.#options.onError?.(asError(error))
      if (this.#isClaiming) return
      this.#isClaiming = true
      await this.#claimAgain()
      this.#isClaiming = false
    }
  }

  async #claimAgain(): Promise<void> {
    try {
      if (await this.#options.again()) {
        if (this.#stopped) await rm(this.#path, { force: true })
        return
      }
    } catch (error) {
      if (!this.#stopped) this.#options.onError?.(asError(error))
      return // the directory cannot be made: nobody else can have it
    }
    if (this.#stopped) return
    this.#stop()
    this.#options.onLost?.()
  }

  #stop(): void {
    this.#stopped = true
    clearInterval(this.#timer)
  }
}

function nameOf(claim: Claim): string {
  return `${claim.id}.json`
}
