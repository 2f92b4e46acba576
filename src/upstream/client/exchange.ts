// The last link: one HTTP exchange through the transport. It alone turns errors of the network into
// upstream errors; what it does not know (no file descriptor left, a bug) passes as it is.
import { withCdnLoop } from '../../http/cdn-loop.ts'
import type { Asked } from '../diagnosis/answer.ts'
import { diagnoseNetwork } from '../diagnosis/network.ts'
import type { OutgoingRequest, Transport } from '../network/transport.ts'
import { isOwnUrl, reachOf } from './request.ts'
import type { ExchangeRequest, ExchangeResponse, Link } from './request.ts'

export interface ExchangeParts {
  readonly transport: Pick<Transport, 'send' | 'reachFrom'>
  /** Sent with every exchange. */
  readonly headers: Readonly<Record<string, string>>
  /** This process's name in CDN-Loop (RFC 8586). */
  readonly instanceId: string
}

export function exchange(parts: ExchangeParts): Link<ExchangeRequest, ExchangeResponse> {
  return async (request, signal) => {
    const asked = askedOf(request)
    try {
      const answer = await parts.transport.send(outgoing(parts, request, asked), {
        signal,
        translate: (error) => diagnoseNetwork(error, asked, 'body') ?? error,
        ...(request.onBytes && { onBytes: request.onBytes }),
      })
      return { ...answer, asked }
    } catch (error) {
      signal.throwIfAborted()
      throw diagnoseNetwork(error, asked, 'head') ?? error
    }
  }
}

function askedOf({ endpoint, url, credential, identified }: ExchangeRequest): Asked {
  const isOwn = isOwnUrl(endpoint, url)
  return {
    endpoint: endpoint.key,
    url,
    host: isOwn ? endpoint.host : url.host,
    authHost: endpoint.host,
    redirected: !isOwn,
    forToken: false,
    credential: credential.kind,
    identified,
  }
}

function outgoing(
  { transport, headers, instanceId }: ExchangeParts,
  request: ExchangeRequest,
  asked: Asked,
): OutgoingRequest {
  const { endpoint, url, method, lane, accept, range, cdnLoop, authorization } = request
  const own = reachOf(request)
  return {
    url,
    method,
    lane,
    host: asked.host,
    via: endpoint.host,
    reach: asked.redirected ? transport.reachFrom(endpoint.base.origin, own) : own,
    headers: {
      ...headers,
      ...(cdnLoop !== undefined && { 'cdn-loop': withCdnLoop(cdnLoop, instanceId) }),
      ...(accept !== undefined && { accept }),
      ...(range !== undefined && { range }),
      ...(authorization !== undefined && { authorization }),
    },
  }
}
