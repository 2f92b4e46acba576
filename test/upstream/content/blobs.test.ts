import { describe, expect, test } from 'vitest'

import type { BlobRange } from '../../../src/upstream/face/source.ts'
import { startRegistry, type TestRegistry } from '../../support/registry.ts'
import { collect, failureOf, REPO, upstreamOver } from '../upstream-fixture.ts'

const { signal } = new AbortController()
const CONTENT = Buffer.from('0123456789'.repeat(1000))
const SIZE = CONTENT.length

/** One range of one blob, from a fresh client. */
async function fetchRange(registry: TestRegistry, range: BlobRange) {
  const { digest } = registry.addBlob(CONTENT)
  await using at = upstreamOver([registry.url])
  const [source] = at.upstream.blobSources(REPO, at.requester)
  const { body, ...response } = await source!.fetch(digest, range, signal)
  return { ...response, bytes: await collect(body) }
}

describe('a range of a blob', () => {
  test.each([
    { range: { start: 0 }, sent: undefined, ranged: false },
    { range: { start: 4000 }, sent: 'bytes=4000-', ranged: true },
    { range: { start: 0, end: 1 }, sent: 'bytes=0-0', ranged: true },
    { range: { start: 4000, end: 5000 }, sent: 'bytes=4000-4999', ranged: true },
    { range: { start: 4000, end: SIZE + 5 }, sent: `bytes=4000-${SIZE + 4}`, ranged: true },
  ])('$range is requested with Range $sent', async ({ range, sent, ranged }) => {
    await using registry = await startRegistry()
    const response = await fetchRange(registry, range)
    const end = Math.min(range.end ?? SIZE, SIZE)
    expect(response).toMatchObject({ start: range.start, end, size: SIZE, ranged })
    expect(response.bytes.equals(CONTENT.subarray(range.start, end))).toBe(true)
    expect(registry.requests.map((request) => request.headers.range)).toEqual([sent])
  })

  test('from a registry without ranges is the whole blob, and not ranged', async () => {
    await using registry = await startRegistry({ ranges: false })
    const response = await fetchRange(registry, { start: 4000, end: 5000 })
    expect(response).toMatchObject({ start: 0, end: SIZE, size: SIZE, ranged: false })
    expect(response.bytes.equals(CONTENT)).toBe(true)
  })

  test('of unknown length has no known end', async () => {
    await using registry = await startRegistry({ ranges: false })
    registry.fault({ announcedLength: 'none' })
    const response = await fetchRange(registry, { start: 0 })
    expect(response).toMatchObject({ start: 0, end: undefined, size: undefined, ranged: false })
  })

  test('that is longer than asked for, or of a blob of no known size, is not ranged', async () => {
    await using registry = await startRegistry()
    const fault = registry.fault({ headers: { 'content-range': `bytes 4000-4999/*` } })
    expect(await fetchRange(registry, { start: 4000, end: 5000 })).toMatchObject({ ranged: false })
    fault.remove()
    registry.fault({ headers: { 'content-range': `bytes 4000-4999/${SIZE}` } })
    // The registry sends what Range says; the header above says more than was asked for.
    const short = fetchRange(registry, { start: 4000, end: 4500 })
    expect(await failureOf(short)).toMatchObject({ reason: 'protocol' })
  })

  test.each([
    'bytes 5000-9999/10000',
    'bytes 0-3999/10000',
    // As long as what was asked for, but said to be of elsewhere.
    'bytes 1-6000/10000',
    'bytes x',
    '',
  ])('that is answered with Content-Range "%s" is refused', async (header) => {
    await using registry = await startRegistry()
    registry.fault({ headers: { 'content-range': header } })
    const failure = await failureOf(fetchRange(registry, { start: 4000 }))
    expect(failure).toMatchObject({ reason: 'protocol', kind: 'unavailable' })
  })

  test('that is empty is not requested', async () => {
    await using registry = await startRegistry()
    await expect(fetchRange(registry, { start: 5, end: 5 })).rejects.toThrow(RangeError)
    expect(registry.requests).toEqual([])
  })
})
