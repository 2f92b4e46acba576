import { X509Certificate } from 'node:crypto'
import { expect, test } from 'vitest'
import { createAuthority } from './certificates.ts'
import { rawRequest } from './raw-client.ts'
import { startRegistry } from './registry.ts'

test('a server certificate is trusted by those who trust the authority, and only for its names', async () => {
  await using authority = await createAuthority()
  const pair = await authority.server('127.0.0.1')
  await using registry = await startRegistry({ tls: { cert: pair.cert, key: pair.key } })
  expect(registry.url).toMatch(/^https:/)
  const trusting = { ca: authority.ca.cert }
  expect((await rawRequest(`${registry.url}/v2/`, { tls: trusting })).status).toBe(200)
  await expect(rawRequest(`${registry.url}/v2/`)).rejects.toThrow('ended before the headers')
  const wrong = await authority.server('elsewhere.test')
  await using other = await startRegistry({ tls: { cert: wrong.cert, key: wrong.key } })
  await expect(rawRequest(`${other.url}/v2/`, { tls: trusting })).rejects.toThrow()
})

test('a server that wants a client certificate serves only those who have one', async () => {
  await using authority = await createAuthority()
  const { cert, key } = await authority.server('127.0.0.1')
  const tls = { cert, key, ca: authority.ca.cert, requestCert: true, rejectUnauthorized: true }
  await using registry = await startRegistry({ tls })
  const client = await authority.client('bot')
  const ca = authority.ca.cert
  const good = { ca, cert: client.cert, key: client.key }
  expect((await rawRequest(`${registry.url}/v2/`, { tls: good })).status).toBe(200)
  await expect(rawRequest(`${registry.url}/v2/`, { tls: { ca } })).rejects.toThrow()
  expect(new X509Certificate(client.cert).ca).toBe(false)
})
