// One endpoint as one caller sees it: the repository's name there, and the credential. What the
// requests of this room have in common.
import type { RegistryClient } from './client.ts'
import type { Credential } from '../credentials/credentials.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { UpstreamError } from '../face/failure.ts'
import type { FailureReason } from '../face/failure.ts'
import type { RegistryRequest, RegistryResponse } from './request.ts'

export interface Place {
  readonly client: RegistryClient
  readonly endpoint: Endpoint
  /** The repository's name there, after rewrite. */
  readonly name: string
  readonly credential: Credential
  /** The CDN-Loop it was asked with. */
  readonly cdnLoop: string | undefined
  /** A client named the registry, the operator did not. */
  readonly publicOnly: boolean
}

export type Question = Omit<RegistryRequest, 'name' | 'credential' | 'cdnLoop' | 'publicOnly'>

/** Asks the place. Throws UpstreamError, or the signal's reason. */
export function ask(place: Place, question: Question): Promise<RegistryResponse> {
  const { client, endpoint, name, credential, cdnLoop, publicOnly } = place
  return client.request(endpoint, { ...question, name, credential, cdnLoop, publicOnly })
}

/** What an answer that is wrong in itself is. */
export function wrongAnswer(
  place: Place,
  reason: FailureReason,
  what: string,
  status?: number,
): UpstreamError {
  const { key } = place.endpoint
  return new UpstreamError(reason, `${key}: ${what}`, { endpoint: key, status })
}

/** The only value of a header, or the first of several. */
export function headerOf(response: RegistryResponse, name: string): string | undefined {
  const header = response.headers[name]
  return typeof header === 'string' ? header : header?.[0]
}

/** Content-Length in bytes, where it is one. */
export function lengthOf(response: RegistryResponse): number | undefined {
  const length = headerOf(response, 'content-length') ?? ''
  return /^\d{1,15}$/.test(length) ? Number(length) : undefined
}
