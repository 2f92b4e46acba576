// An upstream whose answers have no end and no length: each is given up after so many bytes, long
// before any time limit.
import { createServer, type ServerResponse } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net'
import { describe, expect, test } from 'vitest'

import { digestOf } from '../../../src/oci/digest.ts'
import { Proxy } from '../../../src/upstream/network/proxy/egress-proxy.ts'
import { failureOf, REPO, upstreamOver, type Fixture } from '../upstream-fixture.ts'

const DIGEST = digestOf(Buffer.from('x'))
const MIB = 1024 * 1024
const CHUNK = Buffer.alloc(64 * 1024, ' ')
/** For headers: blanks in front of a value are skipped, and count for nothing. */
const LETTERS = Buffer.alloc(64 * 1024, 'x')
/** The system's buffers on both sides, and what is on its way between them. */
const ON_ITS_WAY = 8 * MIB
const LIMITS = {
  headersTimeoutMs: 20_000,
  bodyStallMs: 20_000,
  tokenTimeoutMs: 20_000,
  documentTimeoutMs: 20_000,
}

async function listening(server: Server) {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Answers everything with `begin`, and goes on for ever; a token server challenges first. */
async function endless({ status = 200, begin = '{', challenge = false } = {}) {
  const state = { sent: 0, ended: false }
  const server = createServer((request, response) => {
    response.on('error', () => undefined)
    if (challenge && !request.url?.startsWith('/token')) {
      const header = { 'www-authenticate': 'Bearer realm="/token"' }
      response.writeHead(401, header).end()
      return
    }
    if (request.method === 'HEAD') {
      response.writeHead(405).end()
      return
    }
    response.on('close', () => (state.ended = true))
    response.writeHead(status, { 'content-type': 'application/json' })
    response.write(begin)
    pour(response, state)
  })
  const host = await listening(server)
  const dispose = async () => {
    server.closeAllConnections()
    server.close()
  }
  return { url: `http://${host}`, state, [Symbol.asyncDispose]: dispose }
}

function pour(response: ServerResponse, state: { sent: number; ended: boolean }): void {
  for (;;) {
    if (state.ended) return
    state.sent += CHUNK.length
    if (!response.write(CHUNK)) break
  }
  response.once('drain', () => pour(response, state))
}

interface Case {
  readonly what: string
  readonly most: number
  readonly reason: string
  readonly server?: Parameters<typeof endless>[0]
  readonly ask: (at: Fixture) => Promise<unknown>
}

const manifest = (at: Fixture) => at.upstream.getManifest(REPO, 'latest', at.requester)

const CASES: readonly Case[] = [
  { what: 'a manifest', most: 8 * MIB, reason: 'too-large', ask: manifest },
  {
    what: 'tags',
    most: 8 * MIB,
    reason: 'too-large',
    ask: (at) => at.upstream.tags(REPO, '', at.requester),
  },
  {
    what: 'referrers',
    most: 4 * MIB,
    reason: 'too-large',
    ask: (at) => at.upstream.referrers(REPO, DIGEST, at.requester),
  },
  {
    what: 'a token',
    most: 64 * 1024,
    reason: 'protocol',
    server: { challenge: true },
    ask: manifest,
  },
  {
    what: 'the refusal of a token',
    most: 64 * 1024,
    reason: 'denied',
    server: { challenge: true, status: 403 },
    ask: manifest,
  },
  {
    what: 'an error',
    most: 64 * 1024,
    reason: 'server-error',
    server: { status: 500 },
    ask: manifest,
  },
]

describe('a response without an end', () => {
  test.each(CASES)('is abandoned: $what', async ({ most, reason, server, ask }) => {
    await using registry = await endless(server)
    await using at = upstreamOver([registry.url], { limits: LIMITS })
    const startedAt = Date.now()
    expect(await failureOf(ask(at))).toMatchObject({ reason })
    expect(Date.now() - startedAt).toBeLessThan(5000)
    if (registry.state.sent > 0) await expect.poll(() => registry.state.ended).toBe(true)
    expect(registry.state.sent).toBeLessThan(most + ON_ITS_WAY)
  })

  test('is abandoned: the one to a probe', async () => {
    await using registry = await endless()
    await using at = upstreamOver([registry.url], { limits: LIMITS })
    await at.client.probe(at.endpoints[0]!)
    await expect.poll(() => registry.state.ended).toBe(true)
    expect(registry.state.sent).toBeLessThan(ON_ITS_WAY)
    expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('ok')
  })

  test('shows by its first bytes that a blob exists', async () => {
    await using registry = await endless()
    await using at = upstreamOver([registry.url], { limits: LIMITS })
    const head = await at.upstream.headBlob(REPO, DIGEST, at.requester)
    expect(head.size).toBeUndefined()
    expect(registry.state.sent).toBeLessThan(ON_ITS_WAY)
  })

  test('is abandoned: the one of a proxy to CONNECT', async () => {
    const state = { sent: 0 }
    const server = createTcpServer((socket) => {
      socket.on('error', () => undefined)
      const go = () => {
        while (!socket.destroyed) {
          state.sent += LETTERS.length
          if (!socket.write(LETTERS)) break
        }
      }
      socket.on('drain', go)
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nX: ')
        go()
      })
    })
    const host = await listening(server)
    const hosts = { 'registry.test': { proxy: new Proxy(`http://${host}`) } }
    await using at = upstreamOver(['https://registry.test'], { limits: LIMITS, hosts })
    const startedAt = Date.now()
    const failure = await failureOf(manifest(at))
    expect(failure).toMatchObject({ reason: 'refused' })
    expect(failure.message).toContain('Headers Overflow')
    expect(Date.now() - startedAt).toBeLessThan(5000)
    expect(state.sent).toBeLessThan(ON_ITS_WAY)
    server.close()
  })
})
