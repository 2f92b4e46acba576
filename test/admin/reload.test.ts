// Who may change state on the admin port, and what it is told; on a real socket.
import { request } from 'node:http'
import { networkInterfaces } from 'node:os'
import { text as textOf } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createAdminApp } from '../../src/admin/app.ts'
import { Readiness } from '../../src/admin/readiness.ts'
import type { ReloadOutcome } from '../../src/admin/reload.ts'

const DONE: ReloadOutcome = {
  result: 'reloaded',
  changed: ['freshness.ttl'],
  restart: [],
  warnings: [],
}

let app: ReturnType<typeof createAdminApp>
let port: number
let outcome: ReloadOutcome
let token: string | undefined
let reloads: number

beforeEach(async () => {
  outcome = DONE
  token = undefined
  reloads = 0
  app = createAdminApp({
    metrics: { contentType: 'text/plain', exposition: async () => '' },
    readiness: new Readiness(),
    reload: {
      reload: async () => {
        reloads += 1
        return outcome
      },
      token: async () => {
        if (token === 'UNREADABLE') throw new Error('no such file: my-secret')
        return token
      },
    },
  })
  await app.listen({ host: '0.0.0.0', port: 0 })
  port = (app.server.address() as { port: number }).port
})

afterEach(() => app.close())

interface Sent {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly address?: string
  readonly body?: string
}

function send({ method = 'POST', headers = {}, address = '127.0.0.1', body }: Sent = {}) {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>()
  const options = { host: address, port, path: '/-/reload', method, headers }
  const sent = request(options, (response) => {
    const { statusCode: status = 0 } = response
    textOf(response).then((said) => resolve({ status, text: said }), reject)
  })
  sent.on('error', reject).end(body)
  return promise
}

/** An address of this machine that is not loopback; a container may have none. */
const outside = Object.values(networkInterfaces())
  .flatMap((each) => each ?? [])
  .find(({ family, internal }) => family === 'IPv4' && !internal)?.address

describe('POST /-/reload', () => {
  test('answers 200 with what changed', async () => {
    const { status, text } = await send()
    expect([status, JSON.parse(text)]).toEqual([200, DONE])
  })

  test('answers 422 with the problems', async () => {
    outcome = { result: 'refused', problems: ['c.yaml:1:1 lisen: unknown key'] }
    const { status, text } = await send()
    expect([status, JSON.parse(text)]).toEqual([422, outcome])
  })

  test.each(['application/json', 'application/x-www-form-urlencoded', 'what/ever'])(
    'ignores a body of type %s',
    async (type) => {
      expect((await send({ headers: { 'content-type': type }, body: '{' })).status).toBe(200)
    },
  )

  test.each(['GET', 'PUT', 'DELETE'])('is not answered for the method %s', async (method) => {
    expect([404, 405]).toContain((await send({ method })).status)
    expect(reloads).toBe(0)
  })
})

describe('an admin port without a token', () => {
  test.each(['localhost', 'LOCALHOST:5001', '127.0.0.1:5001', '[::1]:5001', '10.0.0.1'])(
    'lets a client on this machine that asks for %s reload',
    async (host) => {
      expect((await send({ headers: { host } })).status).toBe(200)
    },
  )

  test.each([
    ['a page of a browser', { origin: 'http://localhost:5001' }],
    ['a page without an origin', { origin: 'null' }],
    ['what a page loads', { 'sec-fetch-site': 'cross-site' }],
    ['a name that a page had resolve to us', { host: 'evil.test:5001' }],
    ['a proxy on this machine', { 'x-forwarded-for': '203.0.113.7' }],
    ['another proxy', { forwarded: 'for=203.0.113.7' }],
    ['a wrong token', { authorization: 'Bearer guess' }],
    ['no token', { authorization: 'Bearer ' }],
    ['a password', { authorization: 'Basic YTpi' }],
  ] as const)('lets no request reload that comes %s', async (_, headers) => {
    expect((await send({ headers })).status).toBe(401)
    expect(reloads).toBe(0)
  })

  test.skipIf(outside === undefined)('lets no client on another machine reload', async () => {
    const { status, text } = await send({ address: outside ?? '' })
    expect([status, text]).toEqual([401, expect.stringContaining('admin.token')])
    expect(reloads).toBe(0)
  })
})

describe('an admin port with a token', () => {
  beforeEach(() => (token = 'the-word'))

  test.each(['Bearer the-word', 'bearer  the-word '])(
    'lets a client with "%s" reload, wherever it is',
    async (word) => {
      const headers = { authorization: word, origin: 'https://elsewhere.test', host: 'any.test' }
      expect((await send({ headers })).status).toBe(200)
      if (outside) expect((await send({ address: outside, headers })).status).toBe(200)
    },
  )

  test('lets a client on this machine reload without it', async () => {
    expect((await send()).status).toBe(200)
  })

  test.each(['the-wor', 'the-word2', 'THE-WORD', ''])(
    'lets no client with "%s" reload',
    async (word) => {
      const { status, text } = await send({ headers: { authorization: `Bearer ${word}` } })
      expect([status, text.includes('the-word')]).toEqual([401, false])
    },
  )

  test.each(['', 'UNREADABLE'])(
    'that is "%s" lets nobody reload by it, and does not say why',
    async (bad) => {
      token = bad
      for (const word of [bad, 'undefined']) {
        const { status, text } = await send({ headers: { authorization: `Bearer ${word}` } })
        expect([status, text]).toEqual([401, expect.not.stringContaining('secret')])
      }
      expect(reloads).toBe(0)
    },
  )
})
