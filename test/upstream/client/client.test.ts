import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'

import type { Fault } from '../../support/faults.ts'
import { startRegistry } from '../../support/registry.ts'
import { startStorageHost } from '../../support/storage-host.ts'
import { collect, failureOf, REPO, upstreamOver, type TestRequest } from '../upstream-fixture.ts'

const signal = new AbortController().signal
const BASIC = { kind: 'basic', username: 'bot', password: 'secret' } as const

function requestFor(path: string): TestRequest {
  return { method: 'GET', path, kind: 'blob' }
}

async function listening(server: Server): Promise<{ url: string } & AsyncDisposable> {
  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(0, '127.0.0.1', resolve)
  await promise
  const { port } = server.address() as AddressInfo
  const dispose = async () => {
    server.closeAllConnections()
    server.close()
  }
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: dispose }
}

describe('redirects', () => {
  test('to a storage host are followed without Authorization', async () => {
    await using storage = await startStorageHost()
    const auth = { ...BASIC, kind: 'basic' } as const
    await using registry = await startRegistry({ auth, redirectBlobs: storage })
    const { digest } = registry.addBlob(Buffer.from('content'))
    await using at = upstreamOver([registry.url], { credential: BASIC })
    const [source] = at.upstream.blobSources(REPO, at.requester)
    const response = await source!.fetch(digest, 0, signal)
    expect(response.grantedBy).toBe('credential')
    expect((await collect(response.body)).toString()).toBe('content')
    expect(storage.requests[0]?.headers).not.toHaveProperty('authorization')
    expect(at.events.redirects).toEqual([
      { endpoint: `${registry.url}/v2`, host: storage.host, status: 307 },
    ])
    const outcomes = at.events.requests.map((event) => [event.endpoint, event.outcome])
    expect(outcomes).toEqual([401, 307, 200].map((s) => [`${registry.url}/v2`, String(s)]))
  })

  test('keep the Range header', async () => {
    await using storage = await startStorageHost()
    await using registry = await startRegistry({ redirectBlobs: storage })
    const { digest } = registry.addBlob(Buffer.from('0123456789'))
    await using at = upstreamOver([registry.url])
    const [source] = at.upstream.blobSources(REPO, at.requester)
    const response = await source!.fetch(digest, 4, signal)
    expect(response).toMatchObject({ start: 4, size: 10 })
    expect((await collect(response.body)).toString()).toBe('456789')
  })

  test('to an expired URL make us ask the registry once more, and only once', async () => {
    await using storage = await startStorageHost()
    await using registry = await startRegistry({ redirectBlobs: storage })
    const { digest } = registry.addBlob(Buffer.from('content'))
    storage.fault({ status: 403, times: 1 })
    await using at = upstreamOver([registry.url])
    const [source] = at.upstream.blobSources(REPO, at.requester)
    const response = await source!.fetch(digest, 0, signal)
    expect((await collect(response.body)).toString()).toBe('content')
    expect(registry.requests).toHaveLength(2)
    storage.fault({ status: 403 })
    const failure = await failureOf(source!.fetch(digest, 0, signal))
    expect(failure).toMatchObject({ reason: 'denied', status: 403 })
    expect(registry.requests).toHaveLength(4)
  })

  test('signed for GET alone do not keep HEAD from giving a size', async () => {
    await using storage = await startStorageHost({ getOnly: true })
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(Buffer.from('content'))
    registry.fault({ match: { kind: 'blob' }, redirect: storage })
    await using at = upstreamOver([registry.url])
    expect(await at.upstream.headBlob(REPO, digest, at.requester)).toMatchObject({ size: 7 })
  })

  test('never bring Authorization back once another host was in between', async () => {
    await using registry = await startRegistry({ auth: { ...BASIC, kind: 'basic' } })
    const { digest } = registry.addBlob(Buffer.from('content'))
    const back = createServer((_request, response) => {
      response.writeHead(302, { location: `${registry.url}/v2/other/blobs/${digest}` }).end()
    })
    await using other = await listening(back)
    registry.fault({ times: 1, redirect: other.url })
    await using at = upstreamOver([registry.url], { credential: BASIC })
    const request = { ...requestFor(`blobs/${digest}`), credential: BASIC }
    const failure = await failureOf(at.send(request))
    expect(failure.status).toBe(401)
    const seen = registry.requests.map((r) => [r.url.includes('other'), r.headers.authorization])
    expect(seen).toEqual([
      [false, undefined],
      [false, expect.any(String)],
      [true, undefined],
    ])
  })

  test('in circles end after ten requests', async () => {
    await using registry = await startRegistry()
    registry.fault({ redirect: '/v2/again' })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.send(requestFor('x')))
    expect(failure.reason).toBe('redirect-refused')
    expect(registry.requests).toHaveLength(11)
  })

  test.each(['ftp://127.0.0.1/x', 'http://[', 'file:///etc/passwd', 'http://u:p@127.0.0.1/'])(
    'to %s are refused',
    async (redirect) => {
      await using registry = await startRegistry()
      registry.fault({ redirect })
      await using at = upstreamOver([registry.url])
      const failure = await failureOf(at.send(requestFor('x')))
      expect(failure).toMatchObject({ reason: 'redirect-refused', kind: 'unavailable' })
      expect(failure.message).not.toContain('u:p')
    },
  )

  test('of a registry on loopback do not lead to the metadata service', async () => {
    await using registry = await startRegistry()
    await using at = upstreamOver([registry.url])
    for (const host of ['169.254.169.254', '[fd00:ec2::254]', '0xa9fea9fe', '100.100.100.200']) {
      registry.clearFaults()
      registry.fault({ redirect: `http://${host}/latest/meta-data` })
      const failure = await failureOf(at.send(requestFor('x')))
      expect(failure.reason).toBe('redirect-refused')
    }
  })
})

/** At an address that the operator gave, but led on by what it says itself. */
const leading = async (fault: Fault) => {
  const registry = await startRegistry()
  registry.fault(fault)
  const host = `named.test:${registry.port}`
  const at = upstreamOver([`http://${host}`], { hosts: { [host]: { resolve: ['127.0.0.1'] } } })
  const ask = () => failureOf(at.send({ ...requestFor('x'), publicOnly: true }))
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await registry.close()
  }
  return { ask, [Symbol.asyncDispose]: dispose }
}

describe('a registry that only a client named', () => {
  test.each(['127.0.0.1', '127.1', '0x7f000001', '2130706433', '[::ffff:127.0.0.1]', 'localhost'])(
    'is not followed to %s',
    async (name) => {
      await using inside = await startRegistry()
      await using x = await leading({ redirect: `http://${name}:${inside.port}/x` })
      expect(await x.ask()).toMatchObject({ reason: 'redirect-refused' })
      expect(inside.accepted).toBe(0)
    },
  )

  test.each(['127.0.0.1', '127.1', '0x7f000001', '2130706433', '[::ffff:127.0.0.1]', 'localhost'])(
    'is not asked for a token at %s',
    async (name) => {
      await using inside = await startRegistry()
      const challenge = `Bearer realm="http://${name}:${inside.port}/token"`
      await using x = await leading({ status: 401, headers: { 'www-authenticate': challenge } })
      expect(await x.ask()).toMatchObject({ reason: 'realm-refused' })
      expect(inside.accepted).toBe(0)
    },
  )
})

describe('a body', () => {
  test('that stalls throws timed-out', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addSyntheticBlob(1_000_000, 1)
    registry.fault({ stall: { afterBytes: 1000 } })
    await using at = upstreamOver([registry.url])
    const response = await at.send(requestFor(`blobs/${digest}`))
    expect(await failureOf(collect(response.body))).toMatchObject({ reason: 'timed-out' })
  })

  test('that is read slowly does not count as stalled', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addSyntheticBlob(3_000_000, 1)
    await using at = upstreamOver([registry.url])
    const response = await at.send(requestFor(`blobs/${digest}`))
    let length = 0
    for await (const chunk of response.body) {
      if (length === 0) await sleep(700)
      length += chunk.length
    }
    expect(length).toBe(3_000_000)
  })

  test('that nobody reads does not pile up', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addSyntheticBlob(200_000_000, 1)
    await using at = upstreamOver([registry.url])
    const response = await at.send(requestFor(`blobs/${digest}`))
    await sleep(200)
    expect(at.events.bytes).toBeLessThan(2_000_000)
    response.body.discard()
  })

  test('that is reset throws reset', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addSyntheticBlob(1_000_000, 1)
    registry.fault({ resetAfter: 1000 })
    await using at = upstreamOver([registry.url])
    const response = await at.send(requestFor(`blobs/${digest}`))
    expect(['reset', 'cut']).toContain((await failureOf(collect(response.body))).reason)
  })

  test('whose reader aborts ends with the reason of the signal', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addSyntheticBlob(1_000_000, 1)
    registry.fault({ stall: { afterBytes: 1000 } })
    await using at = upstreamOver([registry.url])
    const leaving = new AbortController()
    const response = await at.send(requestFor(`blobs/${digest}`), leaving.signal)
    const reading = collect(response.body)
    leaving.abort(new Error('left'))
    await expect(reading).rejects.toThrow('left')
    expect(at.events.failures).toEqual([])
  })

  test('that is discarded frees its connection: small ones keep it, big ones close it', async () => {
    await using registry = await startRegistry()
    const small = registry.addSyntheticBlob(20_000, 1)
    const big = registry.addSyntheticBlob(50_000_000, 1)
    await using at = upstreamOver([registry.url], { limits: { connections: 1 } })
    const discard = async (digest: string) => {
      const response = await at.send(requestFor(`blobs/${digest}`))
      response.body.discard()
      response.body.discard()
      expect(await collect(response.body)).toHaveLength(0)
    }
    await discard(small.digest)
    await discard(small.digest)
    expect(registry.accepted).toBe(1)
    await discard(big.digest)
    await discard(small.digest)
    expect(registry.accepted).toBe(2)
    expect(registry.bytesSent(big.digest)).toBeLessThan(10_000_000)
  })

  test('that its reader abandons is discarded', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addSyntheticBlob(50_000_000, 1)
    await using at = upstreamOver([registry.url], { limits: { connections: 1 } })
    const response = await at.send(requestFor(`blobs/${digest}`))
    for await (const chunk of response.body) {
      expect(chunk.length).toBeGreaterThan(0)
      break
    }
    const next = await at.send(requestFor(`blobs/${digest}`))
    next.body.discard()
    expect(next.status).toBe(200)
  })
})

describe('a request', () => {
  test('is sent once more when a kept connection was closed meanwhile', async () => {
    let requests = 0
    const server = createServer((request, response) => {
      requests++
      // Closes as a proxy does that restarts between two requests of one connection.
      if (requests === 2) request.socket.destroy()
      else response.end('ok')
    })
    await using host = await listening(server)
    await using at = upstreamOver([host.url])
    for (const path of ['x', 'y']) {
      const response = await at.send(requestFor(path))
      expect((await collect(response.body)).toString()).toBe('ok')
    }
    expect(requests).toBe(3)
    expect(at.events.failures).toEqual([])
  })

  test('uses one connection again and again, also after a HEAD', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([registry.url])
    for (let times = 0; times < 3; times++) {
      await at.upstream.headManifest(REPO, 'latest', at.requester)
      await at.upstream.getManifest(REPO, image.digest, at.requester)
    }
    expect(registry.requests).toHaveLength(6)
    expect(registry.accepted).toBe(1)
  })

  test('without an answer in time is timed-out', async () => {
    await using registry = await startRegistry()
    registry.fault({ stall: 'headers' })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.send(requestFor('x')))
    expect(failure).toMatchObject({ reason: 'timed-out', kind: 'unavailable' })
    expect(at.events.requests.map((r) => r.outcome)).toEqual(['timed-out'])
  })

  test('answered with an endless head is refused', async () => {
    await using registry = await startRegistry()
    registry.fault({ headers: { 'x-long': 'x'.repeat(70_000) } })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.send(requestFor('x')))
    expect(failure.reason).toBe('protocol')
  })

  test('does not wait behind blobs for a connection', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    const { digest } = registry.addSyntheticBlob(50_000_000, 1)
    await using at = upstreamOver([registry.url], { limits: { connections: 1 } })
    const blob = await at.send(requestFor(`blobs/${digest}`))
    const manifest = await at.upstream.getManifest(REPO, 'latest', at.requester)
    expect(manifest.digest).toBe(image.digest)
    blob.body.discard()
  })

  test('of a caller that left before is never sent', async () => {
    await using registry = await startRegistry()
    await using at = upstreamOver([registry.url])
    const left = AbortSignal.abort(new Error('left'))
    await expect(at.send(requestFor('x'), left)).rejects.toThrow('left')
    expect(registry.requests).toEqual([])
  })

  // Node ends a process in which a rejection meets nobody.
  test('of a caller that leaves just before it is sent leaves no unhandled rejection', async () => {
    await using registry = await startRegistry()
    await using at = upstreamOver([registry.url])
    const unhandled: unknown[] = []
    const note = (reason: unknown) => void unhandled.push(reason)
    process.on('unhandledRejection', note)
    const leaving = new AbortController()
    // From here a timer that is due fires before what waits for its turn to be sent.
    await setImmediate()
    const sent = at.send(requestFor('x'), leaving.signal)
    setTimeout(() => leaving.abort(new Error('left')), 0)
    const until = performance.now() + 5
    await Promise.resolve()
    while (performance.now() < until);
    await expect(sent).rejects.toThrow('left')
    await setImmediate()
    process.off('unhandledRejection', note)
    expect(unhandled).toEqual([])
    expect(registry.requests).toEqual([])
  })
})

describe('the health of an endpoint', () => {
  test.each([
    { what: 'it has no such API', status: 405 },
    { what: 'it has not made that', status: 501 },
    { what: 'it calls that malformed', status: 400 },
    { what: 'we came back to ourselves', status: 508 },
  ])('is not affected where it says that $what', async ({ status }) => {
    await using registry = await startRegistry()
    registry.fault({ status })
    await using at = upstreamOver([registry.url])
    const [endpoint] = at.endpoints
    for (let times = 0; times < 5; times++) {
      await failureOf(at.send({ ...requestFor('x'), kind: 'referrers' }))
    }
    expect(at.client.health.stateOf(endpoint!)).toBe('ok')
    registry.clearFaults()
    registry.fault({ status: 500 })
    for (let times = 0; times < 5; times++) {
      await failureOf(at.send(requestFor('x')))
    }
    expect(at.client.health.stateOf(endpoint!)).toBe('open')
  })
})
