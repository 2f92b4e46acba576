// The log of what goes wrong behind the requests: upstreams, token servers, the store; and of
// connections without a request. The same
// failure of the same endpoint is told once in a while with a count, however often it happens.
import type { Logger } from 'pino'
import type { ReloadOutcome } from '../admin/reload.ts'
import type { DownloadObserver } from '../cache/download/options.ts'
import type { CacheObserver } from '../cache/observer.ts'
import type { RefusedConnection, ServerObserver } from '../server/observer.ts'
import type { StoreObserver } from '../store/driver/driver.ts'
import type { UpstreamError } from '../upstream/face/failure.ts'
import type { UpstreamObserver } from '../upstream/face/observer.ts'
import { exhaustionOf } from '../process/own-fault.ts'
import { Occurrences } from './occurrences.ts'

const QUIET_MS = 10_000

type Level = 'debug' | 'info' | 'warn' | 'error'

export class EventLog
  implements
    Pick<UpstreamObserver, 'upstreamFailure' | 'tokenRequest' | 'upstreamRedirect'>,
    Required<Pick<UpstreamObserver, 'endpointState'>>,
    Pick<CacheObserver, 'storeError' | 'unexpectedError'>,
    Pick<DownloadObserver, 'sourceFailed' | 'verificationFailed'>,
    Pick<ServerObserver, 'connectionRefused'>,
    StoreObserver
{
  readonly #logger: Logger
  readonly #now: () => number
  readonly #occurrences: Occurrences

  /** `now` is a clock in milliseconds. */
  constructor(logger: Logger, now: () => number = Date.now) {
    this.#logger = logger
    this.#now = now
    this.#occurrences = new Occurrences(QUIET_MS)
  }

  /** Of a reason only: clients come from as many addresses as they like. */
  connectionRefused({ reason, client, message }: RefusedConnection): void {
    const isMistake = reason !== 'malformed' && reason !== 'timed-out'
    const level = isMistake ? 'warn' : 'info'
    this.#tell(
      level,
      `refused ${reason}`,
      { reason, client },
      `a connection was refused: ${message}`,
    )
  }

  /** Absent content is an answer like any other and no warning. */
  upstreamFailure(error: UpstreamError, context: { kind: string }): void {
    const details = { ...failureDetails(error, this.#now()), kind: context.kind }
    const level = error.kind === 'gone' ? 'debug' : 'warn'
    this.#tell(level, `upstream ${error.endpoint} ${error.reason}`, details, error.message)
  }

  sourceFailed(error: UpstreamError, digest: string): void {
    const details = { ...failureDetails(error, this.#now()), digest }
    const level = error.kind === 'gone' ? 'debug' : 'warn'
    this.#tell(level, `source ${error.endpoint} ${error.reason}`, details, error.message)
  }

  upstreamRedirect(event: { endpoint: string; host: string; status: number }): void {
    this.#logger.debug(event, 'the upstream redirects')
  }

  /** Only changes come here; that it is being tried again is no news. */
  endpointState(event: Parameters<NonNullable<UpstreamObserver['endpointState']>>[0]): void {
    const { endpoint, state, former, message } = event
    const details = { endpoint, state, former, failure: message }
    if (state === former || state === 'half-open') {
      this.#logger.debug(details, `${endpoint} is ${state}`)
    } else if (state === 'open') {
      this.#logger.warn(details, `${endpoint} fails and is asked last from now on`)
    } else if (state === 'limited') {
      this.#logger.warn(details, `${endpoint} limits our requests and is left alone for a while`)
    } else {
      this.#logger.info(details, `${endpoint} can be used again`)
    }
  }

  /** `trigger`: what made us read it again. */
  configReloaded(outcome: ReloadOutcome, trigger: string): void {
    if (outcome.result === 'refused') {
      const { problems } = outcome
      const message = 'the new configuration is refused, the former one stays'
      return this.#logger.error({ trigger, problems }, message)
    }
    const { result, changed, restart, warnings } = outcome
    const isNew = result === 'reloaded'
    this.#logger.info(
      { trigger, changed },
      isNew ? 'the configuration has changed' : 'the configuration is as it was',
    )
    for (const warning of warnings) this.#logger.warn(warning)
    if (restart.length === 0) return
    this.#logger.warn({ keys: restart }, `a restart is needed for ${restart.join(', ')}`)
  }

  tokenRequest(event: { realm: string; outcome: 'ok' | 'refused' | 'failed' }): void {
    if (event.outcome === 'ok') return
    const { realm, outcome } = event
    const message = `the token server ${realm} ${outcome === 'failed' ? 'cannot be used' : outcome}`
    this.#tell('warn', `token ${realm} ${outcome}`, { realm, outcome }, message)
  }

  verificationFailed(endpoint: string, what: string): void {
    const message = `${endpoint} gave content that is not what its digest or size says`
    this.#tell('warn', `verification ${endpoint}`, { endpoint, content: what }, message)
  }

  storeError(operation: string, err: unknown): void {
    this.#tell('error', `store ${operation}`, { operation, err }, `the store: ${operation} failed`)
  }

  /** `requestId`: of the request that it failed, if it was found there. */
  unexpectedError(operation: string, err: unknown, requestId?: string): void {
    const details = { operation, err, ...(requestId !== undefined && { requestId }) }
    const message = exhaustionOf(err) ?? `a fault in ${operation}`
    this.#tell('error', `fault ${operation} ${originOf(err)}`, details, message)
  }

  #tell(level: Level, key: string, details: object, message: string): void {
    if (!this.#logger.isLevelEnabled(level)) return
    const suppressed = this.#occurrences.count(key, this.#now())
    if (suppressed === undefined) return
    const repeated = suppressed === 0 ? {} : { suppressed }
    this.#logger[level]({ ...details, ...repeated }, message)
  }
}

/** What tells one fault from another: its kind and where it was thrown. */
function originOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const where = error.stack?.split('\n').find((line) => /^\s+at /.test(line)) ?? ''
  return `${error.name} ${'code' in error ? String(error.code) : ''} ${where.trim()}`
}

function failureDetails(error: UpstreamError, nowMs: number) {
  const { endpoint, reason, status, retryAfterMs } = error
  const until =
    retryAfterMs === undefined ? undefined : new Date(nowMs + retryAfterMs).toISOString()
  return { endpoint, reason, status, until }
}
