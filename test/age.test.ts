// The Age header (RFC 9111 section 5.1): a response has one if, and only if, the upstream was not asked
// for it.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { filesBelow } from './support/cache-files.ts'
import { type GetOptions, REPOSITORY } from './support/client.ts'
import type { AddedImage } from './support/registry.ts'
import { createWorld, type World, type Written } from './support/world.ts'

const FRESHNESS = { ttl: '60s', negativeTtl: '60s', revalidateTimeout: '10s' }

let world: World
let image: AddedImage

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  world = await createWorld({ config: { freshness: FRESHNESS } })
  image = world.upstream.addImage(REPOSITORY, 'v1', { multiArch: true })
})

afterEach(async () => {
  await world[Symbol.asyncDispose]()
  vi.useRealTimers()
})

function later(seconds: number): void {
  vi.setSystemTime(Date.now() + seconds * 1000)
}

async function ask(path: string, options?: GetOptions) {
  const { status, headers } = await world.client.get(path, options)
  return { status, age: headers.get('age'), cache: headers.get('cache-status') }
}

function unlessMatches(digest: string): GetOptions {
  return { headers: { 'if-none-match': `"${digest}"` } }
}

function keptDownloads(): Promise<number> {
  return world.client.metric('chandlery_downloads_total{outcome="kept"}')
}

/** The manifest's descriptor for a referrer's `subject`. */
function subject() {
  const { mediaType, digest, bytes } = image
  return { mediaType, digest, size: bytes.length }
}

const HEAD = { method: 'HEAD' }
const OTHER = { repository: 'other/app' }
const HIT = expect.stringContaining('; hit')
const FORWARDED = expect.stringContaining('; fwd=')

describe('a manifest by tag', () => {
  test('has the age of the last upstream answer, for GET, HEAD and 304', async () => {
    expect(await ask('manifests/v1')).toEqual({ status: 200, age: null, cache: FORWARDED })
    later(5)
    expect(await ask('manifests/v1')).toEqual({ status: 200, age: '5', cache: HIT })
    expect(await ask('manifests/v1', HEAD)).toEqual({ status: 200, age: '5', cache: HIT })
    const unchanged = await ask('manifests/v1', unlessMatches(image.digest))
    expect(unchanged).toEqual({ status: 304, age: '5', cache: HIT })
  })

  test('has no age when the upstream confirms it, and counts from then on', async () => {
    await ask('manifests/v1')
    later(61)
    expect(await ask('manifests/v1')).toEqual({ status: 200, age: null, cache: FORWARDED })
    later(2)
    expect(await ask('manifests/v1')).toMatchObject({ age: '2' })
  })

  test('has an age when it is served because the upstream fails', async () => {
    await ask('manifests/v1')
    await world.upstream.stop()
    later(100)
    expect(await ask('manifests/v1')).toEqual({ status: 200, age: '100', cache: HIT })
  })

  test('has an age of 0 after the clock went back', async () => {
    await ask('manifests/v1')
    await world.upstream.stop()
    later(-3600)
    expect(await ask('manifests/v1')).toEqual({ status: 200, age: '0', cache: HIT })
  })
})

describe('a manifest by digest', () => {
  test('has the age of its own fetch, not of the index that names it', async () => {
    await ask('manifests/v1')
    const { digest } = image.images[0]!.manifest.descriptor
    later(100)
    expect(await ask(`manifests/${digest}`)).toMatchObject({ age: null, cache: FORWARDED })
    later(7)
    expect(await ask(`manifests/${digest}`)).toEqual({ status: 200, age: '7', cache: HIT })
    expect(await ask(`manifests/${digest}`, HEAD)).toEqual({ status: 200, age: '7', cache: HIT })
  })

  test('keeps its age over a restart', async () => {
    await ask('manifests/v1')
    const { digest } = image.images[0]!.manifest.descriptor
    later(100)
    await ask(`manifests/${digest}`)
    later(7)
    await world.restart()
    expect(await ask(`manifests/${digest}`)).toEqual({ status: 200, age: '7', cache: HIT })
  })

  test('has no age when the upstream was asked whether it may be read', async () => {
    const same = { multiArch: true, seed: `${REPOSITORY}:v1` }
    const { digest } = world.upstream.addImage(OTHER.repository, 'v1', same)
    expect(digest).toBe(image.digest)
    await ask(`manifests/${digest}`)
    later(5)
    expect(await ask(`manifests/${digest}`, OTHER)).toMatchObject({ age: null })
    later(3)
    expect(await ask(`manifests/${digest}`, OTHER)).toMatchObject({ age: '3', cache: HIT })
  })
})

describe('a blob', () => {
  let path: string

  beforeEach(async () => {
    path = `blobs/${image.layers[0]!.digest}`
    await ask('manifests/v1')
    await ask(`manifests/${image.images[0]!.manifest.descriptor.digest}`)
    later(50)
    expect(await ask(path)).toMatchObject({ age: null, cache: FORWARDED })
    await expect.poll(keptDownloads).toBe(1)
  })

  test('has the age of its fetch, for GET, ranges, HEAD and 304', async () => {
    later(9)
    expect(await ask(path)).toEqual({ status: 200, age: '9', cache: HIT })
    const part = await ask(path, { headers: { range: 'bytes=5-10' } })
    expect(part).toEqual({ status: 206, age: '9', cache: HIT })
    expect(await ask(path, HEAD)).toEqual({ status: 200, age: '9', cache: HIT })
    const unchanged = await ask(path, unlessMatches(image.layers[0]!.digest))
    expect(unchanged).toEqual({ status: 304, age: '9', cache: HIT })
  })

  test('has no age when the upstream was asked whether it may be read', async () => {
    const same = { multiArch: true, seed: `${REPOSITORY}:v1` }
    world.upstream.addImage(OTHER.repository, 'v1', same)
    later(9)
    expect(await ask(path, OTHER)).toMatchObject({ status: 200, age: null })
    later(4)
    expect(await ask(path, OTHER)).toMatchObject({ age: '4', cache: HIT })
  })
})

describe('a list of tags', () => {
  test('has no age when the upstream lists them, and else that of the oldest tag on it', async () => {
    world.upstream.addImage(REPOSITORY, 'v2')
    await ask('manifests/v1')
    later(10)
    await ask('manifests/v2')
    expect(await ask('tags/list')).toMatchObject({ age: null, cache: FORWARDED })
    const records = () => filesBelow(world.cache('repositories'))
    await expect.poll(records).toContainEqual(expect.stringMatching(/_tags\/v2$/))
    await world.upstream.stop()
    later(20)
    expect(await ask('tags/list')).toEqual({ status: 200, age: '30', cache: HIT })
  })

  test('has no age when it is empty because n is 0', async () => {
    expect(await ask('tags/list?n=0')).toMatchObject({ age: null })
  })
})

describe('a list of referrers', () => {
  test('has the age of the last upstream answer', async () => {
    world.upstream.addReferrer(REPOSITORY, subject())
    const path = `referrers/${image.digest}`
    expect(await ask(path)).toMatchObject({ age: null, cache: FORWARDED })
    later(4)
    expect(await ask(path)).toEqual({ status: 200, age: '4', cache: HIT })
    await world.upstream.stop()
    later(100)
    expect(await ask(path)).toEqual({ status: 200, age: '104', cache: HIT })
  })

  test('has the age of the fallback tag that it comes from, fresh or stale', async () => {
    world.upstream.options = { ...world.upstream.options, referrers: 'none' }
    const referrer = world.upstream.addReferrer(REPOSITORY, subject())
    const { mediaType, digest } = image
    const index = { schemaVersion: 2, mediaType, manifests: [referrer] }
    const tag = digest.replace(':', '-')
    world.upstream.addManifest(REPOSITORY, index, { mediaType, tag })
    await ask(`manifests/${tag}`)
    later(6)
    expect(await ask(`referrers/${digest}`)).toEqual({ status: 200, age: '6', cache: FORWARDED })
    later(2)
    expect(await ask(`referrers/${digest}`)).toEqual({ status: 200, age: '8', cache: HIT })
    world.upstream.fault({ match: { kind: 'manifest' }, status: 500 })
    later(10)
    expect(await ask(`referrers/${digest}`)).toEqual({ status: 200, age: '18', cache: HIT })
  })
})

describe('a remembered 404', () => {
  const nowhere = `sha256:${'0'.repeat(64)}`

  test.each(['manifests/nowhere', `manifests/${nowhere}`, `blobs/${nowhere}`])(
    'has the age of the upstream answer: %s',
    async (path) => {
      expect(await ask(path)).toEqual({ status: 404, age: null, cache: FORWARDED })
      later(3)
      const negative = expect.stringContaining('; hit; detail=negative')
      expect(await ask(path)).toEqual({ status: 404, age: '3', cache: negative })
    },
  )

  test('has an age also if what is held may not be served after it', async () => {
    const refusing: Written = { ...world.config, freshness: { ...FRESHNESS, whenGone: 'refuse' } }
    await world.restart(refusing)
    await ask('manifests/v1')
    world.upstream.removeTag(REPOSITORY, 'v1')
    later(61)
    expect(await ask('manifests/v1')).toEqual({ status: 404, age: null, cache: FORWARDED })
    later(2)
    expect(await ask('manifests/v1')).toEqual({ status: 404, age: '2', cache: HIT })
  })
})

test('the answer to a ping has no age', async () => {
  const ping = await fetch(`${world.server.url}/v2/`)
  expect(ping.headers.get('age')).toBeNull()
})
