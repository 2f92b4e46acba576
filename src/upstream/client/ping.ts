// The smallest question to an endpoint: whether it answers at all. Nothing is asked for, and nobody
// says who he is.
import { performance } from 'node:perf_hooks'

import type { CallOptions } from './call.ts'
import { waitFor } from '../deadline.ts'
import { diagnoseNetwork } from '../diagnosis/network.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { UpstreamError } from '../face/failure.ts'

export interface PingTarget {
  readonly endpoint: Endpoint
  /** A client named it: only public addresses are asked. */
  readonly publicOnly: boolean
  readonly signal: AbortSignal
}

/**
 * Sends GET for the API root. Resolves with undefined if the endpoint answers, even if it wants to
 * know who we are, and with the failure if not. Rejects with errors that are ours.
 */
export async function ping(
  options: CallOptions,
  target: PingTarget,
): Promise<UpstreamError | undefined> {
  const { endpoint } = target
  const startedAt = performance.now()
  const failed = await ask(options, target)
  const seconds = (performance.now() - startedAt) / 1000
  const outcome = failed?.status ?? failed?.reason ?? 200
  const event = { endpoint: endpoint.key, method: 'GET', kind: 'ping', seconds }
  options.observer?.upstreamRequest({ ...event, outcome: String(outcome) })
  return failed
}

async function ask(
  { transport, headers }: CallOptions,
  { endpoint, publicOnly, signal }: PingTarget,
): Promise<UpstreamError | undefined> {
  const url = new URL(endpoint.base)
  url.pathname = `${endpoint.base.pathname}/`
  const reach = publicOnly ? 'public' : 'any'
  const asked = {
    endpoint: endpoint.key,
    url,
    host: endpoint.host,
    authHost: endpoint.host,
    redirected: false,
    forToken: false,
    credential: 'anonymous',
    identified: false,
  } as const
  const request = {
    url,
    method: 'GET',
    host: endpoint.host,
    headers,
    reach,
    lane: 'metadata',
  } as const
  try {
    const sent = transport.send(request, { signal, translate: (error) => error })
    const { status, body } = await waitFor(sent, signal)
    body.discard()
    return status < 500 ? undefined : serverError(endpoint, status)
  } catch (error) {
    const { key } = endpoint
    if (signal.aborted)
      return new UpstreamError('timed-out', `${key}: no answer`, { endpoint: key })
    const failed = diagnoseNetwork(error, asked, 'head')
    if (failed === undefined) throw error
    return failed
  }
}

function serverError({ key }: Endpoint, status: number): UpstreamError {
  return new UpstreamError('server-error', `${key}: server error (${status})`, {
    endpoint: key,
    status,
  })
}
