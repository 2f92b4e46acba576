// The composed chain over an exchange that the test decides: the order of its links, and that an
// admission is released whatever the outcome.
import { describe, expect, test, vi } from 'vitest'

import { createChain } from '../../../src/upstream/client/chain.ts'
import type {
  ExchangeRequest,
  ExchangeResponse,
  Link,
  Operation,
  Route,
} from '../../../src/upstream/client/request.ts'
import { ask } from '../../../src/upstream/client/session.ts'
import { getBlob, holdUntilEnded } from '../../../src/upstream/content/blobs.ts'
import type { BlobResponse } from '../../../src/upstream/content/blobs.ts'
import { ANONYMOUS } from '../../../src/upstream/credentials/credentials.ts'
import { UpstreamError } from '../../../src/upstream/face/failure.ts'
import { EndpointHealth } from '../../../src/upstream/health/endpoint-health.ts'
import { RateLimits } from '../../../src/upstream/health/quotas.ts'
import type { BodyEnd } from '../../../src/upstream/network/body-stream.ts'
import { DEFAULT_LIMITS } from '../../../src/upstream/network/timeouts.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { collect, endpointOf } from '../upstream-fixture.ts'

const CONTENT = Buffer.from('content')
const DIGEST = digestOf(CONTENT)
const noDescriptor = Object.assign(new Error('too many open files'), { code: 'EMFILE' })
const down = () => new UpstreamError('refused', 'down', { endpoint: 'x' })
const never = () => new Promise<never>(() => undefined)

type Exchange = Link<ExchangeRequest, ExchangeResponse>

/** A body of one chunk, and what a transport would resolve `ended` with. */
function bodyOf(bytes: Uint8Array, broken?: Error) {
  const end = Promise.withResolvers<BodyEnd>()
  const finish = (outcome: BodyEnd['outcome'], error?: Error) =>
    end.resolve({ outcome, bytes: bytes.length, error })
  async function* read() {
    yield bytes
    finish(broken === undefined ? 'whole' : 'broken', broken)
    if (broken !== undefined) throw broken
  }
  const chunks = read()
  const discard = () => finish('left')
  return { body: { [Symbol.asyncIterator]: () => chunks, discard, ended: end.promise }, finish }
}

function answer(request: ExchangeRequest, { body } = bodyOf(CONTENT)): ExchangeResponse {
  const { endpoint, url } = request
  const who = { endpoint: endpoint.key, url, host: endpoint.host, authHost: endpoint.host }
  const asked = { ...who, redirected: false, forToken: false, identified: false } as const
  const headers = { 'content-length': String(CONTENT.length) }
  return { status: 200, headers, body, asked: { ...asked, credential: 'anonymous' } }
}

const gives: Exchange = (request) => Promise.resolve(answer(request))
const fails: Exchange = () => Promise.reject(down())

const DOCUMENT: Operation<string> = {
  kind: 'manifest',
  lane: 'metadata',
  perform: async (session, signal) => {
    const request = { method: 'GET', path: 'manifests/latest', kind: 'manifest' } as const
    return (await collect((await ask(session, request, signal)).body)).toString()
  },
}
const BLOB: Operation<BlobResponse> = {
  kind: 'blob',
  lane: 'content',
  perform: (session, signal) => getBlob(session, DIGEST, 0, signal),
  hold: holdUntilEnded,
}

/** A chain over two endpoints; what happens is written down in `seen`, in order. */
function chainOver(exchange: Exchange, documentTimeoutMs = 60_000) {
  const seen: string[] = []
  const clock = { now: 1_000_000 }
  const held = { now: 0, total: 0 }
  const now = () => clock.now
  const breaker = { threshold: 1, openMs: 1000, random: () => 0.5 }
  const health = new EndpointHealth({ rateLimits: new RateLimits(now), now, breaker })
  const admit = health.admit.bind(health)
  vi.spyOn(health, 'admit').mockImplementation((endpoint, lane) => {
    const admission = admit(endpoint, lane)
    if (admission === undefined) return undefined
    seen.push('admission')
    held.now += 1
    held.total += 1
    const stack = new DisposableStack()
    stack.use(admission)
    stack.defer(() => {
      seen.push('release')
      held.now -= 1
    })
    return { isTrial: admission.isTrial, [Symbol.dispose]: () => stack.dispose() }
  })
  const note = (method: 'checkPause' | 'recordLatency' | 'answered', as: string) => {
    const original = health[method].bind(health) as (...args: unknown[]) => void
    vi.spyOn(health, method).mockImplementation((...args: unknown[]) => {
      seen.push(as)
      original(...args)
    })
  }
  note('checkPause', 'respectLimits')
  note('recordLatency', 'measure')
  note('answered', 'recordOutcome')
  const authorizer = {
    recall: () => {
      seen.push('authorization')
      return Promise.resolve(undefined)
    },
    answer: () => Promise.resolve(undefined),
  }
  const faults: unknown[] = []
  const observer = {
    upstreamRequest: () => undefined,
    upstreamBytes: () => undefined,
    upstreamFailure: () => undefined,
    tokenRequest: () => undefined,
    unexpectedError: (_: string, error: unknown) => void faults.push(error),
  }
  const limitsFor = () => ({ ...DEFAULT_LIMITS, documentTimeoutMs })
  const send = vi.fn<Exchange>((request, signal) => {
    seen.push('exchange')
    return exchange(request, signal)
  })
  const chain = createChain({ health, authorizer, limitsFor, observer, now }, send)
  const credentials = {
    credentialFor: vi.fn(() => {
      seen.push('tryCredentials')
      return Promise.resolve(ANONYMOUS)
    }),
  }
  const routes = ['one', 'two'].map((name): Route => ({
    endpoint: endpointOf(`https://${name}.test`),
    name: 'a',
    publicOnly: false,
  }))
  const requester = { credentials }
  const document = (operation: Operation<string> = DOCUMENT, signal = AbortSignal.any([])) =>
    chain.documents({ operation, routes, requester }, signal)
  const content = (signal = AbortSignal.any([])) =>
    chain.content(
      { operation: BLOB, route: routes[0]!, routes, requester, urgency: 'anyway' },
      signal,
    )
  return { document, content, seen, held, health, clock, faults, credentials, send, routes }
}

describe('a request', () => {
  test('passes the links from top to bottom, its response from bottom to top', async () => {
    const x = chainOver(gives)
    const perform: Operation<string>['perform'] = (session, signal) => {
      x.seen.push('perform')
      return DOCUMENT.perform(session, signal)
    }
    expect(await x.document({ ...DOCUMENT, perform })).toBe('content')
    expect(x.seen).toEqual([
      'admission',
      'tryCredentials',
      'respectLimits',
      'perform',
      'authorization',
      'exchange',
      'measure',
      'recordOutcome',
      'release',
    ])
  })

  test('is admitted again for each endpoint, and never holds two admissions', async () => {
    const x = chainOver(fails)
    await expect(x.document()).rejects.toThrow('down')
    const events = x.seen.filter((each) => each === 'admission' || each === 'release')
    expect(events).toEqual(['admission', 'release', 'admission', 'release'])
  })
})

/** How a document may end; `leave` is how its caller leaves. */
const DOCUMENT_ENDS: [string, Exchange, (leave: () => void) => void, RegExp | undefined][] = [
  ['it is given', gives, () => undefined, undefined],
  ['every endpoint fails', fails, () => undefined, /down/],
  ['an error is our own', () => Promise.reject(noDescriptor), () => undefined, /open files/],
  ['the caller has left before', gives, (leave) => leave(), /left/],
  ['the caller leaves while it waits', never, (leave) => setImmediate(leave), /left/],
]

describe('an admission for a document is released when', () => {
  test.each(DOCUMENT_ENDS)('%s', async (_, exchange, when, error) => {
    const x = chainOver(exchange)
    const leaving = new AbortController()
    when(() => leaving.abort(new Error('left')))
    const document = x.document(DOCUMENT, leaving.signal)
    if (error === undefined) await document
    else await expect(document).rejects.toThrow(error)
    expect(x.held.total).toBeGreaterThan(0)
    expect(x.held.now).toBe(0)
  })

  test('its deadline is over, even if the operation ignores its signal', async () => {
    const x = chainOver(gives, 20)
    const failure = x.document({ ...DOCUMENT, perform: never })
    await expect(failure).rejects.toMatchObject({ reason: 'timed-out' })
    expect(x.held).toEqual({ now: 0, total: 2 })
  })

  test('its deadline is over while a credential is waited for', async () => {
    const x = chainOver(gives, 20)
    x.credentials.credentialFor.mockImplementation(never)
    await expect(x.document()).rejects.toMatchObject({ reason: 'timed-out' })
    expect(x.held).toEqual({ now: 0, total: 2 })
  })
})

describe('an admission for content', () => {
  test('is held until the body has been read to its end', async () => {
    const x = chainOver(gives)
    const { body } = await x.content()
    expect(x.held.now).toBe(1)
    expect((await collect(body)).toString()).toBe('content')
    expect(x.held.now).toBe(0)
  })

  test('is released after the health of the endpoint knows how the body ended', async () => {
    const x = chainOver(gives)
    vi.spyOn(x.health, 'bodyCompleted').mockImplementation(() => void x.seen.push('body'))
    await collect((await x.content()).body)
    expect(x.seen.slice(-2)).toEqual(['body', 'release'])
  })

  test('is released when the body is discarded', async () => {
    const x = chainOver(gives)
    const { body } = await x.content()
    body.discard()
    expect(x.held.now).toBe(0)
  })

  test('is released when the reader stops', async () => {
    const x = chainOver(gives)
    for await (const _ of (await x.content()).body) break
    expect(x.held.now).toBe(0)
  })

  test('is released when the body breaks', async () => {
    const x = chainOver((request) => Promise.resolve(answer(request, bodyOf(CONTENT, down()))))
    await expect(collect((await x.content()).body)).rejects.toThrow('down')
    expect(x.held.now).toBe(0)
    expect(x.health.stateOf(x.routes[0]!.endpoint, 'content')).toBe('open')
  })

  test('is released when the body ends without anybody reading it', async () => {
    const arriving = bodyOf(CONTENT)
    const x = chainOver((request) => Promise.resolve(answer(request, arriving)))
    await x.content()
    arriving.finish('left', new Error('left'))
    await expect.poll(() => x.held.now).toBe(0)
  })

  test.each([
    ['the endpoint fails', fails],
    ['an error is our own', () => Promise.reject(noDescriptor)],
  ] as [string, Exchange][])('is released when %s', async (_, exchange) => {
    const x = chainOver(exchange)
    await expect(x.content()).rejects.toThrow()
    expect(x.held).toEqual({ now: 0, total: 1 })
  })

  test('is released when the caller leaves before there is an answer', async () => {
    const x = chainOver(never)
    const leaving = new AbortController()
    const response = x.content(leaving.signal)
    setImmediate(() => leaving.abort(new Error('left')))
    await expect(response).rejects.toThrow('left')
    expect(x.held).toEqual({ now: 0, total: 1 })
  })
})

describe('an error of our own', () => {
  test('ends the request: no other endpoint is asked, and nothing is held against this one', async () => {
    const x = chainOver(() => Promise.reject(noDescriptor))
    await expect(x.document()).rejects.toBe(noDescriptor)
    expect(x.send).toHaveBeenCalledOnce()
    const { endpoint } = x.routes[0]!
    expect(x.health.stateOf(endpoint)).toBe('ok')
    expect(x.health.lastFailure(endpoint)).toBeUndefined()
    expect(x.faults).toEqual([noDescriptor])
  })

  test('that comes from the operation passes all links as it is', async () => {
    const x = chainOver(gives)
    const bug = new TypeError('a bug')
    const perform = () => Promise.reject(bug)
    await expect(x.document({ ...DOCUMENT, perform })).rejects.toBe(bug)
    expect(x.send).not.toHaveBeenCalled()
    expect(x.health.lastFailure(x.routes[0]!.endpoint)).toBeUndefined()
  })
})

describe('an endpoint that is down', () => {
  test('is asked after the others, as a last resort by one request at a time', async () => {
    const x = chainOver(fails)
    await expect(x.document()).rejects.toThrow('down')
    x.send.mockClear()
    await Promise.allSettled([x.document(), x.document(), x.document()])
    expect(x.send.mock.calls.map(([{ endpoint }]) => endpoint.host)).toEqual([
      'one.test',
      'two.test',
    ])
  })

  test('is closed again by the trial that it answers', async () => {
    const x = chainOver((request) => (x.clock.now === 1_000_000 ? fails : gives)(request, never0))
    await expect(x.content()).rejects.toThrow('down')
    const { endpoint } = x.routes[0]!
    expect(x.health.stateOf(endpoint, 'content')).toBe('open')
    x.clock.now += 1000
    const { body } = await x.content()
    await collect(body)
    expect(x.health.stateOf(endpoint, 'content')).toBe('ok')
  })
})

const never0 = AbortSignal.any([])
