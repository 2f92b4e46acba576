// Tokens as distribution's `auth.token` verifies them: JWT, RS256, the certificate in `x5c`
// (distribution, docs/spec/auth/jwt.md).
import { createPrivateKey, randomUUID, sign, X509Certificate } from 'node:crypto'
import type { KeyPair } from './certificates.ts'
import type { TokenClaims } from './token-server.ts'

const CLOCK_SKEW_SECONDS = 10

/**
 * Returns the `sign` option of a token server. The registry must trust `pair.certFile` and this
 * issuer.
 */
export function jwtSigner(pair: KeyPair, issuer: string): (claims: TokenClaims) => string {
  const key = createPrivateKey(pair.key)
  const certificate = new X509Certificate(pair.cert).raw.toString('base64')
  const header = encode({ typ: 'JWT', alg: 'RS256', x5c: [certificate] })
  return ({ subject, audience, access, lifetimeSeconds }) => {
    const now = Math.floor(Date.now() / 1000)
    const times = { iat: now, nbf: now - CLOCK_SKEW_SECONDS, exp: now + lifetimeSeconds }
    const payload = {
      iss: issuer,
      sub: subject,
      aud: audience,
      jti: randomUUID(),
      access,
      ...times,
    }
    const signed = `${header}.${encode(payload)}`
    return `${signed}.${sign('sha256', Buffer.from(signed), key).toString('base64url')}`
  }
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
