// Passes what the other parts of the server report on to the metrics, the access log and the event log.
import type { ReloadOutcome } from '../admin/reload.ts'
import type { CacheObserver, StaleReason } from '../cache/observer.ts'
import type { DownloadObserver } from '../cache/download/options.ts'
import type { RefusedConnection, RequestRecord, ServerObserver } from '../server/observer.ts'
import type { StoreObserver } from '../store/driver/driver.ts'
import type { UpstreamError } from '../upstream/face/failure.ts'
import type { UpstreamObserver } from '../upstream/face/observer.ts'
import type { AccessLog } from './access-log.ts'
import type { EventLog } from './event-log.ts'
import { Keeping } from './keeping.ts'
import type { Metrics, ShutdownPhase } from './metrics.ts'

export class Observer
  implements ServerObserver, UpstreamObserver, CacheObserver, DownloadObserver, StoreObserver
{
  /** Why content is not being written to the cache, if it is not. */
  readonly keeping = new Keeping()
  readonly #metrics: Metrics
  readonly #access: AccessLog
  readonly #events: EventLog
  /** Errors already reported, so that an error that fails many requests is counted once. */
  readonly #faults = new WeakSet<object>()

  constructor(metrics: Metrics, access: AccessLog, events: EventLog) {
    this.#metrics = metrics
    this.#access = access
    this.#events = events
  }

  requestStarted(): void {
    this.#metrics.requestStarted()
  }

  requestFinished(record: RequestRecord): void {
    this.#metrics.requestFinished(record)
    this.#access.requestFinished(record)
  }

  /** Reports the phase of the shutdown. */
  shutdownPhase(phase: ShutdownPhase): void {
    this.#metrics.shutdownPhase(phase)
  }

  responsesCut(cut: Parameters<Metrics['responsesCut']>[0]): void {
    this.#metrics.responsesCut(cut)
  }

  connectionRefused(refused: RefusedConnection): void {
    this.#metrics.connectionRefused(refused)
    this.#events.connectionRefused(refused)
  }

  upstreamRequest(event: Parameters<UpstreamObserver['upstreamRequest']>[0]): void {
    this.#metrics.upstreamRequest(event)
  }

  upstreamBytes(endpoint: string, bytes: number, kind: string): void {
    this.#metrics.upstreamBytes(endpoint, bytes, kind)
  }

  upstreamFailure(error: UpstreamError, context: { kind: string }): void {
    this.#metrics.upstreamFailure(error, context)
    this.#events.upstreamFailure(error, context)
  }

  upstreamRedirect(event: { endpoint: string; host: string; status: number }): void {
    this.#events.upstreamRedirect(event)
  }

  endpointState(event: Parameters<NonNullable<UpstreamObserver['endpointState']>>[0]): void {
    this.#events.endpointState(event)
  }

  tokenRequest(event: Parameters<UpstreamObserver['tokenRequest']>[0]): void {
    this.#metrics.tokenRequest(event)
    this.#events.tokenRequest(event)
  }

  downloadStarted(): void {
    this.#metrics.downloadStarted()
  }

  downloadEnded(outcome: Parameters<DownloadObserver['downloadEnded']>[0]): void {
    this.#metrics.downloadEnded(outcome)
    if (outcome === 'kept') this.keeping.kept()
  }

  readersChanged(by: 1 | -1): void {
    this.#metrics.readersChanged(by)
  }

  sourceFailed(error: UpstreamError, digest: string): void {
    this.#metrics.sourceFailed(error)
    this.#events.sourceFailed(error, digest)
  }

  verificationFailed(endpoint: string, what: string): void {
    this.#metrics.verificationFailed(endpoint)
    this.#events.verificationFailed(endpoint, what)
  }

  staleServed(reason: StaleReason): void {
    this.#metrics.staleServed(reason)
  }

  configReloaded(outcome: ReloadOutcome, trigger: string): void {
    this.#metrics.configReloaded(outcome)
    this.#events.configReloaded(outcome, trigger)
  }

  stored(operation: string): void {
    this.keeping.stored(operation)
  }

  storeError(operation: string, error: unknown): void {
    this.keeping.storeError(operation, error)
    this.#metrics.storeError(operation)
    this.#events.storeError(operation, error)
  }

  /** Counts and logs each error once, although it is caught where it arose and in every request it fails. */
  unexpectedError(operation: string, error: unknown, requestId?: string): void {
    if (error instanceof Object) {
      if (this.#faults.has(error)) return
      this.#faults.add(error)
    }
    this.#metrics.unexpectedError()
    this.#events.unexpectedError(operation, error, requestId)
  }
}
