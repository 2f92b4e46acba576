// The access log: one line per request, written when its response is over.
import type { Logger } from 'pino'
import type { RequestRecord, RequestObserver } from '../server/observer.ts'

const MAX_TEXT = 256

export class AccessLog implements RequestObserver {
  readonly #logger: Logger

  constructor(logger: Logger) {
    this.#logger = logger
  }

  requestStarted(): void {}

  requestFinished(record: RequestRecord): void {
    const { failure } = record
    if (failure === undefined) this.#logger.info(lineOf(record), 'request')
    else if (record.status >= 500) this.#logger.warn(failureLineOf(record, failure), 'request')
    else this.#logger.info(failureLineOf(record, failure), 'request')
  }
}

function lineOf(record: RequestRecord) {
  return {
    requestId: record.id,
    method: record.method,
    path: bounded(record.path),
    kind: record.kind,
    registry: record.registry,
    repository: record.repository,
    reference: bounded(record.reference),
    cache: record.cache,
    status: record.status,
    bytes: record.bytes,
    durationMs: Math.round(record.seconds * 10_000) / 10,
    client: record.client,
    userAgent: bounded(record.userAgent),
    aborted: record.aborted ? true : undefined,
  }
}

function failureLineOf(record: RequestRecord, failure: string) {
  return { ...lineOf(record), failure, message: record.message }
}

function bounded(text: string | undefined): string | undefined {
  return text !== undefined && text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text
}
