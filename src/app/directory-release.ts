// Releases the directory when the server stops: makes durable what downloads have, ends everything that
// writes, and lets the next server have it as soon as nobody here needs it any more.
import type { Logger } from '../observability/logger.ts'
import type { Observer } from '../observability/observer.ts'
import type { Opened } from './open-caches.ts'
import type { Connections } from '../server/connections.ts'
import type { Ownership } from '../store/owner/owner.ts'
import { within } from './within.ts'

/** The most that a SIGKILL during the stop can cost: the bytes that arrived within this time. */
const CHECKPOINT_EVERY_MS = 2_000
/** How often it is looked whether another server waits for the directory. */
const LOOK_FOR_WAITING_MS = 100
/** How long the disk may take at the end to write what is left. */
const SETTLE_MS = 3_000

export interface DirectoryReleaseOptions {
  /** Undefined if the directory was not opened. */
  readonly opened: Opened | undefined
  readonly ownership: Ownership | undefined
  readonly connections: Connections
  readonly observer: Observer
  readonly logger: Logger
  /** Reports whether another server has taken the directory: then nothing may be written. */
  readonly isLost: () => boolean
  /** Called once, when the release begins: nothing may be opened in the directory any more. */
  readonly onRelease: () => void
}

export class DirectoryRelease {
  readonly #options: DirectoryReleaseOptions
  readonly #timers: readonly NodeJS.Timeout[]
  #isCheckpointing = false
  #isWanted = false
  #done: Promise<void> | undefined

  /** To be created when the server begins to stop: downloads are checkpointed from then on. */
  constructor(options: DirectoryReleaseOptions) {
    this.#options = options
    void this.#checkpoint()
    this.#timers = [
      setInterval(() => void this.#checkpoint(), CHECKPOINT_EVERY_MS),
      setInterval(() => void this.#lookForWaiting(), LOOK_FOR_WAITING_MS),
    ]
  }

  /**
   * Releases the directory if nothing needs it any more: responses that still run read files that are
   * open already. If another server waits, running downloads are handed over as well, and what they
   * fetch from then on is not kept.
   */
  tryRelease(): void {
    const { opened, connections, isLost } = this.#options
    if (!opened) return
    const { downloads } = opened
    const isIdle = !downloads.isWriting || (this.#isWanted && downloads.canHandOver)
    const isSettled = isIdle && connections.isSettled
    if (isSettled) connections.closeRequests()
    if (isSettled || isLost()) this.#done ??= this.#release({ handOver: true })
  }

  /** Releases the directory unless that has happened, cutting running downloads. Never rejects. */
  async release(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    this.#done ??= this.#release({ handOver: this.#options.isLost() })
    await this.#done
  }

  /** Does nothing while the last checkpoint is still running: the disk is slow. */
  async #checkpoint(): Promise<void> {
    const { opened, isLost } = this.#options
    if (!opened || isLost() || this.#isCheckpointing) return
    this.#isCheckpointing = true
    await opened.downloads.checkpoint()
    this.#isCheckpointing = false
  }

  async #lookForWaiting(): Promise<void> {
    // If that cannot be read, the next server waits until this one has ended.
    this.#isWanted = (await this.#options.ownership?.isWanted().catch(() => false)) ?? false
  }

  /** Ends everything that writes, within SETTLE_MS, and removes this server's claim. */
  async #release({ handOver }: { readonly handOver: boolean }): Promise<void> {
    const { ownership, observer, onRelease } = this.#options
    observer.shutdownPhase('storage')
    onRelease()
    const notReleased = (error: unknown) => observer.storeError('release the directory', error)
    const isDone = await within(SETTLE_MS, async () => {
      await this.#settle(handOver)
      await ownership?.release().catch(notReleased)
    })
    // The claim stays then. The next server takes over once it finds the owner dead.
    if (!isDone) notReleased(new Error(`the disk took longer than ${SETTLE_MS} ms at the end`))
  }

  async #settle(handOver: boolean): Promise<void> {
    const { opened, observer, logger, isLost } = this.#options
    if (!opened) return
    const { downloads, manifestCaches, store } = opened
    try {
      const left = await (handOver ? downloads.handOver({ note: !isLost() }) : downloads.stop())
      if (left) logger.info({ downloads: left }, 'partial downloads are left for the next server')
      await manifestCaches.end()
      await store.close()
    } catch (error) {
      observer.unexpectedError('stop', error)
    }
  }
}
