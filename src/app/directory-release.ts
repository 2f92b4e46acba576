// The end of what a server has of its directory: what downloads have is made durable, all that writes
// ends, and the next server gets it, as soon as nobody here needs it any more.
import type { Logger } from '../observability/logger.ts'
import type { Observer } from '../observability/observer.ts'
import type { Opened } from './open-caches.ts'
import type { Connections } from '../server/connections.ts'
import type { Ownership } from '../store/owner/owner.ts'
import { within } from './within.ts'

/** A SIGKILL that comes while the server stops costs no more than what arrived since. */
const CHECKPOINT_EVERY_MS = 2_000
/** Whether another server waits. */
const ASK_EVERY_MS = 100
/** At the end the disk gets so long to take what is left. */
const SETTLE_MS = 3_000

export interface GivingBackOptions {
  /** Undefined: it was not opened. */
  readonly opened: Opened | undefined
  readonly ownership: Ownership | undefined
  readonly connections: Connections
  readonly observer: Observer
  readonly logger: Logger
  /** Another server has the directory already: nothing may be written any more. */
  readonly isLost: () => boolean
  /** From here on nothing is opened there; called once. */
  readonly begins: () => void
}

export class GivingBack {
  readonly #options: GivingBackOptions
  readonly #timers: readonly NodeJS.Timeout[]
  #isCheckpointing = false
  #isWanted = false
  #done: Promise<void> | undefined

  /** The server has begun to stop. */
  constructor(options: GivingBackOptions) {
    this.#options = options
    void this.#checkpoint()
    this.#timers = [
      setInterval(() => void this.#checkpoint(), CHECKPOINT_EVERY_MS),
      setInterval(() => void this.#ask(), ASK_EVERY_MS),
    ]
  }

  /**
   * Gives it back if that can be. What runs then reads files that are open already, or can do without.
   * Downloads can as well, but what they fetch from then on is not kept: only for a server that waits.
   */
  look(): void {
    const { opened, connections, isLost } = this.#options
    if (!opened) return
    const { downloads } = opened
    const isIdle = !downloads.isWriting || (this.#isWanted && downloads.canHandOver)
    const isSettled = isIdle && connections.isSettled
    if (isSettled) connections.closeRequests()
    if (isSettled || isLost()) this.#done ??= this.#give({ handOver: true })
  }

  /** Gives it back unless that has happened: downloads that run are cut. Never rejects. */
  async finish(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    this.#done ??= this.#give({ handOver: this.#options.isLost() })
    await this.#done
  }

  /** None where one still runs: the disk is slow. */
  async #checkpoint(): Promise<void> {
    const { opened, isLost } = this.#options
    if (!opened || isLost() || this.#isCheckpointing) return
    this.#isCheckpointing = true
    await opened.downloads.checkpoint()
    this.#isCheckpointing = false
  }

  async #ask(): Promise<void> {
    // Where nobody can say, the next one waits until this one has ended.
    this.#isWanted = (await this.#options.ownership?.isWanted().catch(() => false)) ?? false
  }

  /** All that writes ends, in time or not; then the claim goes. */
  async #give({ handOver }: { readonly handOver: boolean }): Promise<void> {
    const { ownership, observer, begins } = this.#options
    observer.shutdownPhase('storage')
    begins()
    const notReleased = (error: unknown) => observer.storeError('release the directory', error)
    const isDone = await within(SETTLE_MS, async () => {
      await this.#settle(handOver)
      await ownership?.release().catch(notReleased)
    })
    // Where the claim stands, the next server finds that its owner is dead once it is.
    if (!isDone) notReleased(new Error(`the disk took longer than ${SETTLE_MS} ms at the end`))
  }

  async #settle(handOver: boolean): Promise<void> {
    const { opened, observer, logger, isLost } = this.#options
    if (!opened) return
    const { downloads, manifestCaches, store } = opened
    try {
      const left = await (handOver ? downloads.handOver({ note: !isLost() }) : downloads.stop())
      if (left) logger.info({ downloads: left }, 'what downloads have is left for the next')
      await manifestCaches.end()
      await store.close()
    } catch (error) {
      observer.unexpectedError('stop', error)
    }
  }
}
