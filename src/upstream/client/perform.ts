// A link: performs the operation. Its requests go through `send`, each with the same identity.
import type { CredentialLink, EndpointSession } from './request.ts'

export function perform(send: EndpointSession['send']): CredentialLink {
  return async ({ operation, route, credential, requester }, signal) => {
    const { cdnLoop } = requester
    return await operation.perform({ ...route, credential, cdnLoop, send }, signal)
  }
}
