// A link: asks one endpoint with each of our credentials there, until one is let in. The next one is
// tried where the last is rate-limited, unknown, or may not have what is asked for.
import { exhaustionOf } from '../../process/own-fault.ts'
import { CredentialError } from '../credentials/configured.ts'
import { fingerprintOf } from '../credentials/credentials.ts'
import type { Credential } from '../credentials/credentials.ts'
import { waitFor } from '../deadline.ts'
import { leastFinal, UpstreamError } from '../face/failure.ts'
import type { FailureReason } from '../face/failure.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import type { CredentialLink, EndpointLink, EndpointRequest } from './request.ts'

interface Parts {
  readonly observer: Pick<UpstreamObserver, 'upstreamFailure'> | undefined
}

/** Rejects with the least final failure. */
export function tryCredentials({ observer }: Parts, next: CredentialLink): EndpointLink {
  return async (request, signal) => {
    const { route, requester, operation } = request
    const failures: UpstreamError[] = []
    const tried = new Set<string>()
    for (;;) {
      const credential = await nextCredential(request, tried, signal)
      const fingerprint = fingerprintOf(credential)
      if (tried.has(fingerprint)) throw leastFinal(failures)
      tried.add(fingerprint)
      try {
        const result = await next({ ...request, credential }, signal)
        // Another credential was let in, so nobody would hear of these otherwise.
        for (const error of failures.filter(isUnknownCredential)) {
          observer?.upstreamFailure(error, { kind: operation.kind })
        }
        return result
      } catch (error) {
        if (!(error instanceof UpstreamError)) throw error
        failures.push(error)
        if (isUnknownCredential(error)) {
          requester.credentials.refused?.(route.endpoint.host, credential)
        }
        if (!isAboutCredential(error)) throw leastFinal(failures)
      }
    }
  }
}

/** Resolves with a credential that was not tried, or else with any. */
async function nextCredential<T>(
  { route, requester }: EndpointRequest<T>,
  tried: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<Credential> {
  const { key, host } = route.endpoint
  try {
    const seeker = { host, byClient: route.publicOnly, except: tried }
    return await waitFor(requester.credentials.credentialFor(seeker), signal)
  } catch (error) {
    const isOurs = exhaustionOf(error) !== undefined
    if (isOurs || !(error instanceof CredentialError)) throw error
    const reason = error.isTimeout ? 'timed-out' : 'bad-credentials'
    const details = { endpoint: key, cause: error }
    throw new UpstreamError(reason, `${key}: ${error.message}`, details)
  }
}

/** Refusals that would be the same with any credential. */
const ANY_CREDENTIAL: ReadonlySet<FailureReason> = new Set(['blocked', 'not-public'])

function isAboutCredential({ kind, reason }: UpstreamError): boolean {
  return kind === 'rate-limited' || (kind === 'denied' && !ANY_CREDENTIAL.has(reason))
}

/** Reports whether the registry does not know the credential: the configuration is wrong. */
function isUnknownCredential({ reason }: UpstreamError): boolean {
  return reason === 'bad-credentials'
}
