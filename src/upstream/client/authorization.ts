// A link: sends what the registry is known to want in Authorization, and answers its challenges.
// Whatever is not content in the end becomes an upstream error.
import type { AuthContext, Authorizer } from '../auth/authorizer.ts'
import { diagnoseAnswer } from '../diagnosis/answer.ts'
import { UpstreamError } from '../face/failure.ts'
import { readStart } from '../network/read-body.ts'
import { nameOnWire } from '../routing/endpoint.ts'
import { reachOf } from './request.ts'
import type {
  AuthorizedRequest,
  Link,
  ReachedResponse,
  RegistryResponse,
  TracedRequest,
} from './request.ts'

interface Parts {
  readonly authorizer: Pick<Authorizer, 'recall' | 'answer'>
  readonly now: () => number
}

/** Challenges answered for one request: the first one, and one more if that answer was refused. */
const MAX_CHALLENGES = 2
const ERROR_BODY_BYTES = 64 * 1024

/** Resolves for 2xx and 416. */
export function authorization(
  { authorizer, now }: Parts,
  next: Link<AuthorizedRequest, ReachedResponse>,
): Link<TracedRequest, RegistryResponse> {
  return async (request, signal) => {
    const context = authContextOf(request)
    let grant = await authorizer.recall(context, signal)
    for (let challenges = 0; ; challenges++) {
      const authorized = { ...request, grant }
      const reached = await next(authorized, signal)
      if (isContent(reached)) return accept(authorized, reached)
      // Read before anything else is asked, so that the body holds no connection meanwhile.
      const body = await readStart(reached.body, ERROR_BODY_BYTES)
      signal.throwIfAborted()
      const challenge = challenges < MAX_CHALLENGES ? challengeOf(reached) : undefined
      const answer =
        challenge && (await authorizer.answer(challenge.header, context, grant, signal))
      if (answer === undefined) throw diagnoseAnswer({ ...reached, body }, reached.asked, now())
      grant = answer
    }
  }
}

function authContextOf(request: TracedRequest): AuthContext {
  const { endpoint, credential } = request
  const name = nameOnWire(endpoint, request.name)
  return { endpoint, name, credential, reach: reachOf(request) }
}

function isContent({ status }: ReachedResponse): boolean {
  return (status >= 200 && status < 300) || status === 416
}

/** Only the registry's own: where it redirects to must not learn our credential. */
function challengeOf({ status, headers, asked }: ReachedResponse) {
  return status === 401 && !asked.redirected ? { header: headers['www-authenticate'] } : undefined
}

/** Digests are of the bytes as they are, so a content encoding that nobody asked for is refused. */
function accept(request: AuthorizedRequest, reached: ReachedResponse): RegistryResponse {
  const { status, headers, body, sentAtMs, asked } = reached
  const encoding = headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity') {
    body.discard()
    const { key } = request.endpoint
    const what = `sends Content-Encoding ${JSON.stringify(encoding)} although asked for identity`
    throw new UpstreamError('protocol', `${key}: ${asked.url.host} ${what}`, { endpoint: key })
  }
  const isOurs = request.grant !== undefined && request.credential.kind !== 'anonymous'
  const grantedBy = isOurs ? 'credential' : 'anonymous'
  return { status, headers, url: asked.url, body, sentAtMs, grantedBy }
}
