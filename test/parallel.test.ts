// Cold blobs over several connections, end to end: pieces, steering, upstreams that ignore Range,
// failover in the middle.
import { describe, expect, test } from 'vitest'
import type { Digest } from '../src/oci/digest.ts'
import { syntheticBytes } from './support/content.ts'
import type { TestRegistry } from './support/registry.ts'
import { createWorld, type World } from './support/world.ts'

const MIB = 1024 * 1024
/** A far upstream: the first byte comes late. */
const FAR = { match: { kind: 'blob' }, delayMs: 30 } as const

/** Two upstreams, of which pieces are small. */
function createFarWorld(): Promise<World> {
  return createWorld({ upstreams: [{}, {}], config: { fetch: { piece: '1MiB' } } })
}

/** An image whose only layer is synthetic, known to Chandlery by its manifest. */
async function layerOf({ upstreams, client }: World, size: number, seed: string): Promise<Digest> {
  const layers = [syntheticBytes(seed, 0, size)]
  const [image] = upstreams.map((each) => each.addImage('team/app', seed, { layers }))
  expect((await client.manifest(seed)).status).toBe(200)
  return image!.layers[0]!.digest
}

async function get({ client }: World, digest: string, range?: string) {
  const response = await client.openBlob(digest, { headers: range ? { range } : {} })
  return { status: response.status, headers: response.headers, ...(await response.body()) }
}

function rangesAsked(registry: TestRegistry, digest: Digest): (string | undefined)[] {
  const gets = registry.requestsFor(digest).filter(({ method }) => method === 'GET')
  return gets.map(({ headers }) => headers.range)
}

describe('a cold blob from a far upstream', () => {
  test('is fetched in pieces over several connections, every byte once', async () => {
    await using world = await createFarWorld()
    const { upstream } = world
    const digest = await layerOf(world, 12 * MIB, 'far')
    upstream.fault(FAR)
    const { bytes, complete } = await get(world, digest)
    expect(complete && bytes.equals(syntheticBytes('far', 0, 12 * MIB))).toBe(true)
    expect(rangesAsked(upstream, digest).length).toBeGreaterThan(4)
    // The first request is asked without an end and cut where the pieces begin.
    expect(upstream.bytesSent(digest)).toBeLessThan(12 * MIB * 1.4)
  })

  test('that ignores Range is fetched over one connection, and once', async () => {
    await using world = await createFarWorld()
    const { upstream, other } = world
    upstream.options = { ...upstream.options, ranges: false }
    const digest = await layerOf(world, 6 * MIB, 'plain')
    upstream.fault(FAR)
    const { bytes, complete } = await get(world, digest)
    expect(complete && bytes.equals(syntheticBytes('plain', 0, 6 * MIB))).toBe(true)
    expect(rangesAsked(other, digest)).toEqual([])
  })

  test('is continued from the other endpoint when one dies in the middle', async () => {
    await using world = await createFarWorld()
    const { upstream, other } = world
    const digest = await layerOf(world, 8 * MIB, 'dies')
    upstream.fault({ ...FAR, cutAfter: 300_000 })
    const { bytes, complete } = await get(world, digest)
    expect(complete && bytes.equals(syntheticBytes('dies', 0, 8 * MIB))).toBe(true)
    expect(rangesAsked(other, digest).length).toBeGreaterThan(0)
  })

  test('that one endpoint corrupts is still served and kept, and that endpoint is named', async () => {
    await using world = await createFarWorld()
    const { upstream, other, client } = world
    const digest = await layerOf(world, 8 * MIB, 'lies')
    upstream.fault({ ...FAR, corruptAt: 5 * MIB })
    other.fault(FAR)
    const first = await get(world, digest)
    // What was sent before the truth was known may have been cut; then it is right.
    const again = first.complete ? first : await get(world, digest)
    expect(again.complete && again.bytes.equals(syntheticBytes('lies', 0, 8 * MIB))).toBe(true)
    const found = `chandlery_verification_failures_total{endpoint="${upstream.url}/v2"}`
    expect(await client.metric(found)).toBeGreaterThan(0)
  })
})

describe('a part of a cold blob', () => {
  test('far from its start takes one upstream request for just that part', async () => {
    await using world = await createFarWorld()
    const { upstream } = world
    const digest = await layerOf(world, 20 * MIB, 'part')
    const { status, headers, bytes } = await get(
      world,
      digest,
      `bytes=${15 * MIB}-${15 * MIB + 999}`,
    )
    expect(status).toBe(206)
    expect(headers.get('content-range')).toBe(`bytes ${15 * MIB}-${15 * MIB + 999}/${20 * MIB}`)
    expect(bytes.equals(syntheticBytes('part', 15 * MIB, 1000))).toBe(true)
    expect(rangesAsked(upstream, digest)).toEqual([`bytes=${15 * MIB}-${15 * MIB + 999}`])
    expect(upstream.bytesSent(digest)).toBe(1000)
  })

  test('can be one of several in a multipart response', async () => {
    await using world = await createFarWorld()
    const { upstream } = world
    const digest = await layerOf(world, 20 * MIB, 'parts')
    const { status, headers, bytes } = await get(
      world,
      digest,
      `bytes=5-9,${9 * MIB}-${9 * MIB + 4}`,
    )
    expect(status).toBe(206)
    expect(headers.get('content-type')).toMatch(/^multipart\/byteranges; ?boundary=/)
    expect(bytes.includes(syntheticBytes('parts', 5, 5))).toBe(true)
    expect(bytes.includes(syntheticBytes('parts', 9 * MIB, 5))).toBe(true)
    expect(upstream.bytesSent(digest)).toBeLessThan(100)
  })

  test('can be one of 1,024, many of which come by one request', async () => {
    await using world = await createFarWorld()
    const { upstream } = world
    const digest = await layerOf(world, 20 * MIB, 'many')
    upstream.fault(FAR)
    const starts = Array.from({ length: 1024 }, (_, i) => i * 20_000)
    const range = `bytes=${starts.map((start) => `${start}-${start + 4999}`).join(',')}`
    const { status, bytes } = await get(world, digest, range)
    expect(status).toBe(206)
    const last = starts.at(-1)!
    expect(bytes.includes(syntheticBytes('many', last, 5000))).toBe(true)
    expect(bytes.length).toBeLessThan(1024 * 5200)
    // At most 2 MiB each, in pieces of one here.
    expect(rangesAsked(upstream, digest).length).toBeLessThan(40)
  })

  test('that many request to its end and leave early does not stop the request for the whole', async () => {
    await using world = await createFarWorld()
    const { upstream, client } = world
    const digest = await layerOf(world, 12 * MIB, 'chunks')
    upstream.fault(FAR)
    const whole = get(world, digest, 'bytes=0-')
    const chunks = [3, 6, 9].map(async (at) => {
      using response = await client.openBlob(digest, {
        headers: { range: `bytes=${at * MIB}-` },
      })
      expect(response.status).toBe(206)
      return (await response.read(MIB)).equals(syntheticBytes('chunks', at * MIB, MIB))
    })
    expect(await Promise.all(chunks)).toEqual([true, true, true])
    const { status, bytes, complete } = await whole
    expect([status, complete]).toEqual([206, true])
    expect(bytes.equals(syntheticBytes('chunks', 0, 12 * MIB))).toBe(true)
  })

  test('is not sent again by the request for the whole, also on a near link', async () => {
    await using world = await createFarWorld()
    const { upstream, client } = world
    const size = 24 * MIB
    const digest = await layerOf(world, size, 'near')
    upstream.fault({ match: { kind: 'blob' }, drip: { bytes: MIB, everyMs: 12 } })
    const whole = get(world, digest, 'bytes=0-')
    const chunks = [6, 9, 12, 15, 18, 21].map(async (at) => {
      using response = await client.openBlob(digest, {
        headers: { range: `bytes=${at * MIB}-` },
      })
      await response.read(3 * MIB)
    })
    await Promise.all(chunks)
    expect((await whole).bytes.equals(syntheticBytes('near', 0, size))).toBe(true)
    // What was on its way when a request was cut counts too.
    expect(upstream.bytesSent(digest)).toBeLessThan(size * 1.4)
  })

  test.each([2, 3, 5])(
    'of %i MiB, as containerd reads them, is not fetched again by the request for the part before',
    async (mib) => {
      await using world = await createWorld()
      const { upstream, client } = world
      const [size, chunk] = [32 * MIB, mib * MIB]
      const digest = await layerOf(world, size, 'small-chunks')
      upstream.fault({ match: { kind: 'blob' }, drip: { bytes: MIB / 8, everyMs: 2 } })
      const starts = Array.from({ length: Math.ceil(size / chunk) }, (_, i) => i * chunk).values()
      const read = async () => {
        for (const start of starts) {
          const headers = { range: `bytes=${start}-` }
          using response = await client.openBlob(digest, { headers })
          const bytes = await response.read(Math.min(chunk, size - start))
          expect(bytes.equals(syntheticBytes('small-chunks', start, bytes.length))).toBe(true)
        }
      }
      await Promise.all([read(), read(), read(), read(), read(), read()])
      expect(upstream.bytesSent(digest)).toBeLessThan(size * 1.1)
    },
  )

  test('also comes from an upstream that ignores Range', async () => {
    await using world = await createFarWorld()
    const { upstream } = world
    upstream.options = { ...upstream.options, ranges: false }
    const digest = await layerOf(world, 4 * MIB, 'deaf')
    const { status, bytes } = await get(world, digest, `bytes=${3 * MIB}-${3 * MIB + 9}`)
    expect(status).toBe(206)
    expect(bytes.equals(syntheticBytes('deaf', 3 * MIB, 10))).toBe(true)
  })
})

describe('a restart in the middle of a download', () => {
  test('fetches no byte that was already there', async () => {
    await using world = await createFarWorld()
    const { upstream, other, client } = world
    const size = 6 * MIB
    const digest = await layerOf(world, size, 'restart')
    const stall = upstream.fault({ match: { kind: 'blob' }, stall: { afterBytes: 4 * MIB } })
    other.fault({ match: { kind: 'blob' }, stall: 'headers' })
    const response = await client.openBlob(digest)
    expect((await response.read(3 * MIB)).length).toBe(3 * MIB)
    response.leave()
    await world.server.stop()
    stall.remove()
    other.clearFaults()
    const before = upstream.bytesSent(digest)
    await world.start()
    const { bytes, complete } = await get(world, digest)
    expect(complete && bytes.equals(syntheticBytes('restart', 0, size))).toBe(true)
    expect(upstream.bytesSent(digest) - before).toBeLessThanOrEqual(3 * MIB)
  })
})

describe('the fetch settings of one host', () => {
  test('apply to pieces from there: to their size and to how many come at once', async () => {
    const own = { fetch: { piece: '2MiB', connections: 2, maxConnections: 2 } }
    await using world = await createWorld({
      config: ([only]) => ({ configs: { [only!.host]: own }, fetch: { piece: '1MiB' } }),
    })
    const { upstream } = world
    const digest = await layerOf(world, 12 * MIB, 'own')
    const connections = upstream.accepted
    upstream.fault(FAR)
    const { bytes, complete } = await get(world, digest)
    expect(complete && bytes.equals(syntheticBytes('own', 0, 12 * MIB))).toBe(true)
    const pieces = rangesAsked(upstream, digest).filter((range) => range !== undefined)
    expect(pieces).toContain(`bytes=${4 * MIB}-${6 * MIB - 1}`)
    // One more for each piece that was cut: its connection is closed.
    expect(upstream.accepted - connections).toBeLessThanOrEqual(3)
  })
})
