// Makes sure that one server owns a directory. A server that wants it writes a claim into
// `<directory>/owner/`, under a name of its own, and then looks for other claims. It withdraws if
// it finds one: of two servers, the later one always sees the claim of the earlier. The next owner
// removes the claims of dead servers.

import { mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ClaimWatch } from './claim-watch.ts'
import { findPidScope, isAlive, makeClaim, readClaim } from './claim.ts'
import type { Claim, PidScope } from './claim.ts'
import { asError, explainStorageError, isAbsent } from '../disk/errno.ts'
import { OWNER_DIRECTORY } from '../layout.ts'
import { Waiting, WaitingNote } from './waiting.ts'

export interface OwnershipOptions {
  readonly signal?: AbortSignal
  /**
   * Called when another server is found to own the directory, and whenever the owner changes
   * meanwhile.
   */
  readonly onWaiting?: (owner: Claim) => void
  /**
   * Called when the claim is gone: another server took this one for dead, or somebody removed the
   * file. Stop writing at once. Not called if the whole directory was emptied and could be claimed
   * again.
   */
  readonly onLost?: () => void
  /** Called when a heartbeat could not be written. The next one tries again. */
  readonly onError?: (error: Error) => void
  /** Interval of the heartbeats. Default: 5 s. */
  readonly heartbeatMs?: number
  /**
   * A claim from another host or container is dead if it has not changed for this long. Must be the
   * same for all servers. Default: 15 s.
   */
  readonly staleMs?: number
  /**
   * How often a waiting server looks, in case the file system does not report changes. Default: 500
   * ms.
   */
  readonly pollMs?: number
  /** For tests: replaces what /proc says, as if this process ran elsewhere. */
  readonly pidScope?: PidScope | 'unknown'
}

export interface Ownership {
  readonly claim: Claim
  /**
   * Reports whether another server is waiting for the directory. The first call always returns
   * false: it removes old notes, and servers that are still waiting leave new ones within `pollMs`.
   */
  isWanted(): Promise<boolean>
  /** Releases the directory to the next server. Safe to call twice. */
  release(): Promise<void>
}

/**
 * Waits until this server owns the directory. While another owner is alive, it writes nothing but
 * an empty file that tells the owner that somebody is waiting. Rejects when aborted.
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
  /** The last pulse of each claim, and when this process first saw it, by its own clock. */
  readonly #pulses = new Map<string, { pulse: string; sinceMs: number }>()
  #pidScope: PidScope | undefined
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
    const { pidScope, signal, pollMs = 500 } = this.#options
    this.#pidScope = pidScope === 'unknown' ? undefined : (pidScope ?? (await findPidScope()))
    using watch = new ClaimWatch(this.#directory)
    for (;;) {
      signal?.throwIfAborted()
      watch.start()
      if (!(await this.#isFree())) {
        await this.#note.put()
        await watch.wait(pollMs * (0.5 + Math.random()), signal)
      } else {
        const claim = await makeClaim(listen, this.#pidScope)
        if (await this.#stake(claim, signal)) {
          const reclaim = () => this.#reclaim(claim)
          return new HeldClaim(this.#pathOf(claim), claim, { ...this.#options, reclaim })
        }
        // Wait for a random time: two servers that saw each other and withdrew must not collide
        // again.
        await sleep(pollMs * (0.5 + Math.random()), undefined, { ...(signal && { signal }) })
      }
    }
  }

  /**
   * Writes the claim, then looks again: another server may have done the same meanwhile. Returns
   * whether the directory is ours, and removes the claim otherwise, also when the signal fires.
   */
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
      if (!isOurs) await rm(path, { force: true }).catch(() => {}) // the first error is the cause
    }
    return isOurs
  }

  /**
   * Claims the directory again if it was emptied. Returns false if it was not, or if another server
   * has it.
   */
  async #reclaim(claim: Claim): Promise<boolean> {
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
    const alive = seen.claim && (await isAlive(seen.claim, this.#pidScope))
    const dead = alive === undefined ? this.#hasNoPulse(name, seen.pulse) : !alive
    if (!dead && seen.claim !== undefined) this.#announce(seen.claim)
    return dead
  }

  /**
   * Measures by this process's clock alone how long the pulse has not changed: hosts' clocks may
   * differ.
   */
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

  /**
   * Removes all other claims: they are of dead servers, or of servers that will see this claim and
   * withdraw.
   */
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
  /** Claims the directory again if it was emptied. Returns whether that succeeded. */
  readonly reclaim: () => Promise<boolean>
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
      await this.#recover()
      this.#isClaiming = false
    }
  }

  async #recover(): Promise<void> {
    try {
      if (await this.#options.reclaim()) {
        if (this.#stopped) await rm(this.#path, { force: true })
        return
      }
    } catch (error) {
      if (!this.#stopped) this.#options.onError?.(asError(error))
      return // the directory could not be created, so no other server can have claimed it
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
