// A host with several credentials: who is asked as, by what the registry says is left of each.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'

import { digestOf } from '../../../src/oci/digest.ts'
import { ConfiguredCredentials } from '../../../src/upstream/credentials/configured.ts'
import { collect, failureOf, REPO, upstreamOver } from '../upstream-fixture.ts'

const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'a/b', digest: digestOf(Buffer.from('c')), size: 1 },
    layers: [],
  }),
)
const BLOB = Buffer.from('content')

interface Account {
  /** undefined: the registry does not say. */
  left?: number
  limited?: { retryAfter?: string }
  denied?: boolean
  /** The registry does not know it any more. */
  revoked?: boolean
}

const as = (username: string) => ({ kind: 'basic', username, password: 'p' }) as const

/** A registry with accounts, each with so many requests left. */
async function hub(accounts: Record<string, Account>) {
  const asked: string[] = []
  const server = createServer((request, response) => {
    const pair = /^Basic (.*)$/.exec(request.headers.authorization ?? '')?.[1]
    const [user = ''] = Buffer.from(pair ?? '', 'base64')
      .toString()
      .split(':')
    const account = accounts[user]
    if (account === undefined) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="hub"' }).end()
      return
    }
    asked.push(user)
    if (account.revoked === true) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="hub"' }).end()
      return
    }
    if (account.limited) {
      const { retryAfter } = account.limited
      response.writeHead(429, retryAfter === undefined ? {} : { 'retry-after': retryAfter }).end()
      return
    }
    if (account.denied === true) {
      response.writeHead(403).end()
      return
    }
    if (account.left !== undefined) {
      account.left -= 1
      response.setHeader('ratelimit-limit', '100;w=21600')
      response.setHeader('ratelimit-remaining', `${account.left};w=21600`)
    }
    const isBlob = request.url?.includes('/blobs/') === true
    const type = isBlob ? 'application/octet-stream' : 'application/vnd.oci.image.manifest.v1+json'
    response.setHeader('content-type', type)
    response.end(isBlob ? BLOB : MANIFEST)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const at = upstreamOver([`http://${host}`])
  const auth = Object.keys(accounts).map((username) => ({ username, password: 'p' }))
  const { rateLimits } = at.client.health
  const credentials = new ConfiguredCredentials({ hosts: { [host]: { auth } }, rateLimits })
  const users = () => asked.splice(0).join('')
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    server.closeAllConnections()
    server.close()
  }
  return {
    at,
    users,
    accounts,
    told: () => at.events.failures.map(({ reason }) => reason),
    state: () => at.client.health.stateOf(at.endpoints[0]!),
    pull: () => at.upstream.getManifest(REPO, 'latest', { credentials }),
    blob: async () => {
      const [source] = at.upstream.blobSources(REPO, { credentials })
      const never = new AbortController().signal
      const { body } = await source!.fetch(digestOf(BLOB), 0, never)
      return await collect(body)
    },
    [Symbol.asyncDispose]: dispose,
  }
}

describe('of several credentials', () => {
  test('the one with most requests left is used, until another has more', async () => {
    await using x = await hub({ a: { left: 4 }, b: { left: 7 } })
    for (let times = 0; times < 2; times++) await x.pull()
    expect(x.users()).toBe('ab')
    for (let times = 0; times < 6; times++) await x.pull()
    // After three of b's both have three left.
    expect(x.users()).toMatch(/^bbb(ab|ba)/)
  })

  test('they take turns where the registry does not say what is left', async () => {
    await using x = await hub({ a: {}, b: {}, c: {} })
    for (let times = 0; times < 6; times++) await x.pull()
    expect(x.users()).toBe('abcabc')
  })

  test('the next one is used within the same request where one has no requests left', async () => {
    await using x = await hub({ a: { limited: { retryAfter: '60' } }, b: {} })
    await x.pull()
    expect(x.users()).toBe('ab')
    for (let times = 0; times < 3; times++) await x.pull()
    expect((await x.blob()).equals(BLOB)).toBe(true)
    expect(x.users()).toBe('bbbb')
    expect(x.state()).toBe('ok')
  })

  test('the next one is used for a blob as well', async () => {
    await using x = await hub({ a: { limited: {} }, b: { limited: {} }, c: {} })
    expect((await x.blob()).equals(BLOB)).toBe(true)
    expect(x.users()).toMatch(/^ab?c$/)
  })

  test('none is used again where all are told to wait, and the soonest decides', async () => {
    await using x = await hub({
      a: { limited: { retryAfter: '60' } },
      b: { limited: { retryAfter: '30' } },
    })
    const failure = await failureOf(x.pull())
    expect(failure).toMatchObject({ kind: 'rate-limited', retryAfterMs: 30_000 })
    expect(x.users()).toBe('ab')
    const again = await failureOf(x.pull())
    expect(again.kind).toBe('rate-limited')
    expect(again.retryAfterMs).toBeLessThanOrEqual(30_000)
    expect(x.users()).toBe('')
    expect(x.state()).toBe('limited')
  })

  test('one that is denied does not hide that the other is only told to wait', async () => {
    await using x = await hub({ a: { limited: { retryAfter: '60' } }, b: { denied: true } })
    expect(await failureOf(x.pull())).toMatchObject({ kind: 'rate-limited' })
    expect(x.users()).toBe('ab')
  })

  test('one that the registry no longer accepts costs no pull, and is logged once', async () => {
    await using x = await hub({ a: { revoked: true }, b: {} })
    await x.pull()
    // Once as if it knew us, and once more with what it asks for.
    expect(x.users()).toBe('ab')
    for (let times = 0; times < 4; times++) await x.pull()
    expect((await x.blob()).equals(BLOB)).toBe(true)
    expect(x.users()).toBe('bbbbb')
    expect(x.told()).toEqual(['bad-credentials'])
    expect(x.state()).toBe('ok')
  })

  test('all are tried again where none is accepted any more, and the reason is reported', async () => {
    await using x = await hub({ a: { revoked: true }, b: { revoked: true } })
    expect(await failureOf(x.pull())).toMatchObject({ reason: 'bad-credentials' })
    expect(x.users()).toBe('ab')
    x.accounts['a'] = {}
    await x.pull()
    expect(x.users()).toMatch(/a$/)
  })

  test('one that is denied does not keep the other from being used', async () => {
    await using x = await hub({ a: { denied: true }, b: {} })
    for (let times = 0; times < 3; times++) await x.pull()
    expect(x.users()).toMatch(/b$/)
    expect((await x.blob()).equals(BLOB)).toBe(true)
  })

  test('one that is told to wait only for blobs is used for manifests', async () => {
    await using x = await hub({ a: {}, b: {} })
    const { rateLimits } = x.at.client.health
    const [endpoint] = x.at.endpoints
    rateLimits.refused(endpoint!, as('a'), 'metadata', 60_000)
    rateLimits.refused(endpoint!, as('b'), 'content', 60_000)
    for (let times = 0; times < 3; times++) await x.pull()
    expect(x.users()).toBe('bbb')
  })
})
