// What the operations of content/ have in common: asking a session, and reading what it answers.
import { UpstreamError } from '../face/failure.ts'
import type { FailureReason } from '../face/failure.ts'
import type { DocumentRequest, EndpointSession, RegistryResponse } from './request.ts'

/** Sends a request as the session's requester. Rejects as links do. */
export function ask(
  session: EndpointSession,
  request: DocumentRequest,
  signal: AbortSignal,
): Promise<RegistryResponse> {
  const { send, ...identity } = session
  return send({ ...request, ...identity }, signal)
}

/** Returns the error for an answer that is wrong in itself. */
export function wrongAnswer(
  { endpoint: { key } }: EndpointSession,
  reason: FailureReason,
  what: string,
  status?: number,
): UpstreamError {
  return new UpstreamError(reason, `${key}: ${what}`, { endpoint: key, status })
}

/** Returns the value of a header, or the first of several. */
export function headerOf(response: RegistryResponse, name: string): string | undefined {
  const header = response.headers[name]
  return typeof header === 'string' ? header : header?.[0]
}

/** Returns Content-Length in bytes, or undefined if it is missing or not a number. */
export function lengthOf(response: RegistryResponse): number | undefined {
  const length = headerOf(response, 'content-length') ?? ''
  return /^\d{1,15}$/.test(length) ? Number(length) : undefined
}
