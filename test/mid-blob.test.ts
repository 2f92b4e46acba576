// What an upstream may do in the middle of a blob that it began to give in pieces: change its mind
// about the size or the range, refuse one request, answer another question. End to end, with and
// without a second endpoint.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import { mirrorOf } from './support/chandlery.ts'
import { REGISTRY } from './support/client.ts'
import { syntheticBytes } from './support/content.ts'
import { createWorld } from './support/world.ts'

const MIB = 1024 * 1024
const SIZE = 6 * MIB
const BLOB = syntheticBytes('mid-blob', 0, SIZE)
const DIGEST = digestOf(BLOB)
const CONFIG = Buffer.from('{}')
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: { mediaType: 'a/b', digest: digestOf(CONFIG), size: CONFIG.length },
    layers: [{ mediaType: 'application/octet-stream', digest: DIGEST, size: SIZE }],
  }),
)
const LIMITS = { connectTimeoutMs: 1000, headersTimeoutMs: 1000, bodyStallMs: 1000 }
/** So late a first byte that several connections are used. */
const FAR_MS = 25
/** The requests before have been given what they asked for. */
const MIDDLE = 3

/** One request for the blob, and the answer it should have. */
interface Asked {
  /** From 1. */
  readonly number: number
  readonly ranged: boolean
  readonly start: number
  readonly end: number
}

interface Answer {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: Uint8Array
}

type Play = (asked: Asked) => Answer | undefined

function right({ ranged, start, end }: Asked): Answer {
  const headers = {
    'content-type': 'application/octet-stream',
    ...(ranged && { 'content-range': `bytes ${start}-${end - 1}/${SIZE}` }),
  }
  return { status: ranged ? 206 : 200, headers, body: BLOB.subarray(start, end) }
}

function refusal(status: number, headers: Record<string, string> = {}, text = ''): Answer {
  return { status, headers, body: Buffer.from(text) }
}

const inTheMiddle = ({ number, ranged }: Asked) => ranged && number >= MIDDLE
const once = ({ number }: Asked) => number === MIDDLE
const whole: Answer = { status: 200, headers: {}, body: BLOB }

function sized(asked: Asked, size: number | '*'): Answer {
  const { start, end } = asked
  return { ...right(asked), headers: { 'content-range': `bytes ${start}-${end - 1}/${size}` } }
}

function shifted({ start, end }: Asked): Answer {
  const range = { 'content-range': `bytes ${start + 1}-${end}/${SIZE + 1}` }
  return { status: 206, headers: range, body: BLOB.subarray(start + 1, end + 1) }
}

function shortened(asked: Asked): Answer | undefined {
  const end = asked.start + Math.ceil((asked.end - asked.start) / 2)
  return asked.ranged ? right({ ...asked, end }) : undefined
}

function wrongAt(at: number, asked: Asked): Answer {
  const answer = right(asked)
  const body = Buffer.from(answer.body)
  if (asked.start <= at && at < asked.end) body[at - asked.start]! ^= 1
  return { ...answer, body }
}

const PAGE = '<html>log in</html>'
const HTML = { 'content-type': 'text/html' }

/**
 * `alone`: with one endpoint, where chance has no part in it; with a second one that is well, all are `good` but
 * where wrong bytes were sent before.
 */
const CASES: Record<string, { play: Play; alone?: 'good' | 'cut'; beside?: 'cut' }> = {
  'another size from then on': {
    play: (asked) => (inTheMiddle(asked) ? sized(asked, SIZE + 1) : undefined),
    alone: 'cut',
  },
  'no size any more': {
    play: (asked) => (inTheMiddle(asked) ? sized(asked, '*') : undefined),
    alone: 'good',
  },
  'another ETag each time': {
    play: (asked) => {
      const answer = right(asked)
      return { ...answer, headers: { ...answer.headers, etag: `"${asked.number}"` } }
    },
    alone: 'good',
  },
  'the range after the one that was asked for': {
    play: (asked) => (inTheMiddle(asked) ? shifted(asked) : undefined),
    alone: 'cut',
  },
  'half of each range': { play: shortened, alone: 'good' },
  'the whole instead of a part from then on': {
    play: (asked) => (inTheMiddle(asked) ? whole : undefined),
    alone: 'good',
  },
  'the whole instead of a part, once': {
    play: (asked) => (once(asked) ? whole : undefined),
    alone: 'good',
  },
  '206 that does not say which part': {
    play: (asked) => (inTheMiddle(asked) ? { ...right(asked), headers: {} } : undefined),
    alone: 'cut',
  },
  'a login page, once': {
    play: (asked) => (once(asked) ? refusal(200, HTML, PAGE) : undefined),
    alone: 'good',
  },
  'a part that is a login page, once': {
    play: (asked) => {
      const { headers } = right(asked)
      return once(asked) ? refusal(206, { ...headers, ...HTML }, PAGE) : undefined
    },
    alone: 'good',
  },
  '404, once': { play: (asked) => (once(asked) ? refusal(404) : undefined), alone: 'good' },
  '404 from then on': {
    play: (asked) => (asked.number >= MIDDLE ? refusal(404) : undefined),
    alone: 'cut',
  },
  '403, once': { play: (asked) => (once(asked) ? refusal(403) : undefined), alone: 'good' },
  '503 three times': {
    play: ({ number }) => (number >= MIDDLE && number < MIDDLE + 3 ? refusal(503) : undefined),
    alone: 'good',
  },
  '503 until the year 2099': {
    play: (asked) =>
      once(asked) ? refusal(503, { 'retry-after': 'Thu, 01 Jan 2099 00:00:00 GMT' }) : undefined,
  },
  '429 until 1970': {
    play: (asked) =>
      once(asked) ? refusal(429, { 'retry-after': 'Thu, 01 Jan 1970 00:00:00 GMT' }) : undefined,
    alone: 'good',
  },
  '429 until the year 2099': {
    play: (asked) =>
      once(asked) ? refusal(429, { 'retry-after': 'Thu, 01 Jan 2099 00:00:00 GMT' }) : undefined,
    alone: 'cut',
  },
  'limits that make no sense': {
    play: (asked) => {
      const answer = right(asked)
      const limits = { 'ratelimit-limit': 'NaN;w=-1,"', 'ratelimit-remaining': '-5;;w=w' }
      const source = { 'docker-ratelimit-source': 'x"} 1 evil{' }
      return { ...answer, headers: { ...answer.headers, ...limits, ...source } }
    },
    alone: 'good',
  },
  'one wrong byte in one piece': {
    play: (asked) => wrongAt(3 * MIB + 7, asked),
    alone: 'cut',
    beside: 'cut',
  },
}

/** A registry with one image, whose answers for the layer are `play`'s. */
async function startUpstream(play: Play) {
  let number = 0
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const url = request.url ?? ''
    if (url.includes('/manifests/')) {
      response.writeHead(200, { 'content-type': MANIFEST_TYPE, 'content-length': MANIFEST.length })
      return response.end(request.method === 'HEAD' ? undefined : MANIFEST)
    }
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
    const end = last === undefined || last === '' ? SIZE : Number(last) + 1
    const asked = { number: ++number, ranged: first !== undefined, start: Number(first ?? 0), end }
    await sleep(FAR_MS)
    const { status, headers, body } = play(asked) ?? right(asked)
    response.writeHead(status, { ...headers, 'content-length': body.length })
    return response.end(body)
  }
  const server = createServer((request, response) => void serve(request, response))
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.dispose]: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

async function pull(play: Play, endpoints: number): Promise<'good' | 'cut'> {
  using first = await startUpstream(play)
  using second = await startUpstream(() => undefined)
  const urls = [first.url, second.url].slice(0, endpoints)
  await using world = await createWorld({
    upstreams: [],
    config: { ...mirrorOf(REGISTRY, ...urls), fetch: { piece: '1MiB' } },
    scale: { retryDelayMs: 10, limits: LIMITS },
  })
  expect((await world.client.manifest('v1')).status).toBe(200)
  using response = await world.client.openBlob(DIGEST)
  expect(response.status).toBe(200)
  const { bytes, complete } = await response.body()
  // Whatever was sent is right, but for the byte that nobody could know to be wrong.
  if (complete) expect(bytes.equals(BLOB)).toBe(true)
  return complete ? 'good' : 'cut'
}

describe('a blob is complete or cut as it should be when its upstream answers in the middle with', () => {
  test.concurrent.each(Object.entries(CASES))('%s', async (_, { play, alone, beside }) => {
    if (alone !== undefined) expect(await pull(play, 1)).toBe(alone)
    expect(await pull(play, 2)).toBe(beside ?? 'good')
  })
})
