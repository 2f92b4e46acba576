// Logs failures behind the requests (upstreams, token servers, the store) and refused connections. The same
// failure of the same endpoint is logged at most once in 10 s, with a count of the suppressed ones.
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

  /** Suppressed by reason, not by client: clients may come from any number of addresses. */
  connectionRefused({ reason, client, message }: RefusedConnection): void {
    const isMistake = reason !== 'malformed' && reason !== 'timed-out'
    const level = isMistake ? 'warn' : 'info'
    this.#log(
      level,
      `refused ${reason}`,
      { reason, client },
      `a connection was refused: ${message}`,
    )
  }

  /** Content that does not exist is an ordinary answer, not a warning. */
  upstreamFailure(error: UpstreamError, context: { kind: string }): void {
    const details = { ...failureDetails(error, this.#now()), kind: context.kind }
    const level = error.kind === 'gone' ? 'debug' : 'warn'
    this.#log(level, `upstream ${error.endpoint} ${error.reason}`, details, error.message)
  }

  sourceFailed(error: UpstreamError, digest: string): void {
    const details = { ...failureDetails(error, this.#now()), digest }
    const level = error.kind === 'gone' ? 'debug' : 'warn'
    this.#log(level, `source ${error.endpoint} ${error.reason}`, details, error.message)
  }

  upstreamRedirect(event: { endpoint: string; host: string; status: number }): void {
    this.#logger.debug(event, 'the upstream redirected a request')
  }

  /** Called on changes only. An endpoint that is merely being retried is logged at debug level. */
  endpointState(event: Parameters<NonNullable<UpstreamObserver['endpointState']>>[0]): void {
    const { endpoint, state, former, message } = event
    const details = { endpoint, state, former, failure: message }
    if (state === former || state === 'half-open') {
      this.#logger.debug(details, `${endpoint} is ${state}`)
    } else if (state === 'open') {
      this.#logger.warn(details, `${endpoint} is failing and is now tried last`)
    } else if (state === 'limited') {
      this.#logger.warn(details, `${endpoint} is rate-limiting us: it gets no requests for a while`)
    } else {
      this.#logger.info(details, `${endpoint} is healthy again`)
    }
  }

  /** `trigger` is what caused the reload. */
  configReloaded(outcome: ReloadOutcome, trigger: string): void {
    if (outcome.result === 'refused') {
      const { problems } = outcome
      const message = 'the new configuration is invalid: the old one stays in use'
      return this.#logger.error({ trigger, problems }, message)
    }
    const { result, changed, restart, warnings } = outcome
    const isNew = result === 'reloaded'
    this.#logger.info(
      { trigger, changed },
      isNew ? 'the configuration has changed' : 'the configuration has not changed',
    )
    for (const warning of warnings) this.#logger.warn(warning)
    if (restart.length === 0) return
    this.#logger.warn({ keys: restart }, `a restart is needed to apply ${restart.join(', ')}`)
  }

  tokenRequest(event: { realm: string; outcome: 'ok' | 'refused' | 'failed' }): void {
    if (event.outcome === 'ok') return
    const { realm, outcome } = event
    const what = outcome === 'failed' ? 'failed' : 'refused the request'
    const message = `the token server ${realm} ${what}`
    this.#log('warn', `token ${realm} ${outcome}`, { realm, outcome }, message)
  }

  verificationFailed(endpoint: string, what: string): void {
    const message = `${endpoint} sent content that does not match its digest or size`
    this.#log('warn', `verification ${endpoint}`, { endpoint, content: what }, message)
  }

  storeError(operation: string, err: unknown): void {
    this.#log('error', `store ${operation}`, { operation, err }, `the store: ${operation} failed`)
  }

  /** `requestId` is that of the request that failed, if the error was found there. */
  unexpectedError(operation: string, err: unknown, requestId?: string): void {
    const details = { operation, err, ...(requestId !== undefined && { requestId }) }
    const message = exhaustionOf(err) ?? `an internal error in ${operation}`
    this.#log('error', `fault ${operation} ${originOf(err)}`, details, message)
  }

  #log(level: Level, key: string, details: object, message: string): void {
    if (!this.#logger.isLevelEnabled(level)) return
    const suppressed = this.#occurrences.count(key, this.#now())
    if (suppressed === undefined) return
    const repeated = suppressed === 0 ? {} : { suppressed }
    this.#logger[level]({ ...details, ...repeated }, message)
  }
}

/** Identifies an internal error by its kind and the place where it was thrown. */
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
