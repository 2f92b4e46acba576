import { createHash } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import { contentBytes, syntheticBytes, syntheticContent } from './content.ts'
import { rawRequest } from './raw-client.ts'
import { startRegistry, type RegistryOptions, type TestRegistry } from './registry.ts'
import { startStorageHost } from './storage-host.ts'
import { startTokenServer } from './token-server.ts'

let registry: TestRegistry
const open: AsyncDisposable[] = []

async function start(options?: RegistryOptions): Promise<TestRegistry> {
  registry = await startRegistry(options)
  open.push(registry)
  return registry
}

afterEach(async () => {
  for (const server of open.splice(0)) await server[Symbol.asyncDispose]()
})

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

test('an image is served by tag and by digest, with its blobs, and every byte is counted', async () => {
  await start()
  const image = registry.addImage('team/app', 'v1', { type: 'docker', multiArch: true })
  const byTag = await fetch(`${registry.url}/v2/team/app/manifests/v1`)
  const body = Buffer.from(await byTag.arrayBuffer())
  expect(byTag.headers.get('docker-content-digest')).toBe(image.digest)
  expect(byTag.headers.get('content-type')).toBe(
    'application/vnd.docker.distribution.manifest.list.v2+json',
  )
  expect(sha256(body)).toBe(image.digest)
  for (const blob of image.blobs) {
    const response = await fetch(`${registry.url}/v2/team/app/blobs/${blob.digest}`)
    expect(sha256(Buffer.from(await response.arrayBuffer()))).toBe(blob.digest)
    expect(registry.bytesSent(blob.digest)).toBe(blob.size)
  }
  expect(registry.bytesSent(image.digest)).toBe(body.length)
  expect((await fetch(`${registry.url}/v2/other/blobs/${image.blobs[0]?.digest}`)).status).toBe(404)
  expect(registry.requests.map((r) => r.status)).toEqual([200, 200, 200, 200, 200, 200, 200, 404])
})

test('HEAD of a manifest has the length of GET and no body', async () => {
  await start()
  const image = registry.addImage('app', 'v1')
  const response = await rawRequest(`${registry.url}/v2/app/manifests/v1`, { method: 'HEAD' })
  expect(response.headers.get('content-length')).toBe(String(image.bytes.length))
  expect((await response.body()).bytes).toHaveLength(0)
  expect(registry.bytesSent(image.digest)).toBe(0)
})

test('synthetic content is the same at every offset', () => {
  const whole = contentBytes(syntheticContent(200_000, 'seed'))
  expect(syntheticBytes('seed', 12_345, 70_001)).toEqual(whole.subarray(12_345, 82_346))
  expect(contentBytes(syntheticContent(100, 'other'))).not.toEqual(whole.subarray(0, 100))
})

test.each([
  ['bytes=0-1', 206, 0, 2],
  ['bytes=99990-', 206, 99_990, 100_000],
  ['bytes=-10', 206, 99_990, 100_000],
  ['bytes=5-999999', 206, 5, 100_000],
  ['bytes=0-1,5-6', 200, 0, 100_000],
  ['nonsense', 200, 0, 100_000],
])('Range %s is answered with %i', async (range, status, from, to) => {
  await start()
  const blob = registry.addSyntheticBlob(100_000, 1)
  const url = `${registry.url}/v2/any/blobs/${blob.digest}`
  const response = await fetch(url, { headers: { range } })
  expect(response.status).toBe(status)
  expect(Buffer.from(await response.arrayBuffer())).toEqual(syntheticBytes(1, from, to - from))
})

test('a range beyond the end is 416, and a registry without ranges ignores them', async () => {
  await start()
  const blob = registry.addBlob(Buffer.from('hello'))
  const url = `${registry.url}/v2/any/blobs/${blob.digest}`
  const beyond = await fetch(url, { headers: { range: 'bytes=5-' } })
  expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, 'bytes */5'])
  registry.options = { ranges: false }
  expect(await (await fetch(url, { headers: { range: 'bytes=1-' } })).text()).toBe('hello')
})

test("a cut sends exactly the given number of bytes, and one of the nth request only that request's", async () => {
  await start()
  const blob = registry.addSyntheticBlob(300_000, 2)
  const url = `${registry.url}/v2/any/blobs/${blob.digest}`
  const cut = registry.fault({ match: { kind: 'blob', nth: 2 }, cutAfter: 123_457 })
  const bodies = []
  for (let i = 0; i < 3; i++) bodies.push(await (await rawRequest(url)).body())
  expect(bodies.map((b) => [b.bytes.length, b.complete])).toEqual([
    [300_000, true],
    [123_457, false],
    [300_000, true],
  ])
  expect(cut.hits).toBe(1)
  expect(registry.requests.map((r) => [r.bytes, r.finished])).toEqual([
    [300_000, true],
    [123_457, false],
    [300_000, true],
  ])
})

test('a corrupt byte is at its place in the content, in a range too', async () => {
  await start()
  const blob = registry.addSyntheticBlob(1000, 3)
  registry.fault({ match: { digest: blob.digest }, corruptAt: 700 })
  const url = `${registry.url}/v2/any/blobs/${blob.digest}`
  const response = await fetch(url, { headers: { range: 'bytes=600-' } })
  const expected = Buffer.from(syntheticBytes(3, 600, 400))
  expected.writeUInt8(expected.readUInt8(100) ^ 0xff, 100)
  expect(Buffer.from(await response.arrayBuffer())).toEqual(expected)
})

test.each([
  ['a body shorter than announced', { bodyLength: 3 }, 'hel', false],
  ['a body longer than announced is seen as announced', { bodyLength: 7 }, 'hello', true],
  ['a larger length announced', { announcedLength: 9 }, 'hello', false],
  [
    'no length, ended cleanly in the middle',
    { announcedLength: 'none', bodyLength: 2 },
    'he',
    true,
  ],
  ['no length', { announcedLength: 'none' }, 'hello', true],
] as const)('the response has %s', async (_name, fault, text, complete) => {
  await start()
  const blob = registry.addBlob(Buffer.from('hello'))
  registry.fault(fault)
  const body = await (await rawRequest(`${registry.url}/v2/any/blobs/${blob.digest}`)).body()
  expect([body.bytes.toString(), body.complete]).toEqual([text, complete])
})

test('a stall goes on until it is released, in the headers and in the body', async () => {
  await start()
  const blob = registry.addBlob(Buffer.from('hello'))
  const url = `${registry.url}/v2/any/blobs/${blob.digest}`
  const inBody = registry.fault({ times: 1, stall: { afterBytes: 2 } })
  const response = await rawRequest(url)
  expect((await response.read(2)).toString()).toBe('he')
  const rest = response.body()
  expect(await Promise.race([rest, later('nothing yet')])).toBe('nothing yet')
  inBody.release()
  expect((await rest).bytes.toString()).toBe('llo')
  const inHeaders = registry.fault({ stall: 'headers' })
  const stalled = fetch(url)
  expect(await Promise.race([stalled, later('no headers yet')])).toBe('no headers yet')
  inHeaders.release()
  expect(await (await stalled).text()).toBe('hello')
})

test('a drip comes in pieces, a reset is a reset, a status has headers and a body', async () => {
  await start()
  const blob = registry.addBlob(Buffer.from('hello world'))
  const url = `${registry.url}/v2/any/blobs/${blob.digest}`
  const drip = registry.fault({ drip: { bytes: 2, everyMs: 10 } })
  const before = Date.now()
  expect(await (await fetch(url)).text()).toBe('hello world')
  expect(Date.now() - before).toBeGreaterThanOrEqual(50)
  drip.remove()
  const reset = registry.fault({ resetAfter: 4 })
  await expect(fetch(url).then((r) => r.text())).rejects.toThrow()
  reset.remove()
  registry.fault({ resetAfter: -1, times: 1 })
  await expect(fetch(url)).rejects.toThrow()
  registry.fault({ status: 429, headers: { 'retry-after': '7' }, body: '<html>slow down</html>' })
  const limited = await fetch(url)
  expect([limited.status, limited.headers.get('retry-after')]).toEqual([429, '7'])
  expect(await limited.text()).toBe('<html>slow down</html>')
})

test('a redirect leads to a host that wants its signature and no Authorization', async () => {
  const storage = await startStorageHost({ lifetimeMs: 500 })
  open.push(storage)
  await start({ redirectBlobs: storage })
  const blob = registry.addBlob(Buffer.from('hello'))
  const url = `${registry.url}/v2/any/blobs/${blob.digest}`
  expect(await (await fetch(url)).text()).toBe('hello')
  expect(storage.bytesSent(blob.digest)).toBe(5)
  expect(registry.bytesSent(blob.digest)).toBe(0)
  const signed = (await fetch(url, { redirect: 'manual' })).headers.get('location') ?? ''
  const authorization = 'Bearer x'
  expect((await fetch(signed, { headers: { authorization } })).status).toBe(400)
  expect((await fetch(signed.replace('Expires=', 'Expires=9'))).status).toBe(403)
  await later('', 600)
  expect((await fetch(signed)).status).toBe(403)
})

test('tags and referrers come in pages, linked by the cursor the registry has', async () => {
  await start({ pageSize: 2, cursor: 'next_page' })
  const image = registry.addImage('app', 'a')
  for (const tag of ['b', 'c']) registry.tag('app', tag, image.digest)
  const first = await fetch(`${registry.url}/v2/app/tags/list`)
  expect(await first.json()).toEqual({ name: 'app', tags: ['a', 'b'] })
  const next = /<([^>]+)>; rel="next"/.exec(first.headers.get('link') ?? '')?.[1] ?? ''
  expect(next).toContain('next_page=')
  const second = await fetch(registry.url + next)
  expect(await second.json()).toEqual({ name: 'app', tags: ['c'] })
  expect(second.headers.get('link')).toBeNull()
  const subject = image.images[0]?.manifest.descriptor
  if (!subject) throw new Error('no manifest')
  const referrer = registry.addReferrer('app', subject, { artifactType: 'application/vnd.x' })
  const list = await fetch(`${registry.url}/v2/app/referrers/${subject.digest}`)
  expect(await list.json()).toMatchObject({
    manifests: [{ digest: referrer.digest, artifactType: 'application/vnd.x' }],
  })
})

test('a token is for one repository, and the strict server refuses a scope it does not know', async () => {
  const tokens = await startTokenServer({
    users: { bot: 's3cret' },
    repositories: { app: 'anonymous', secret: ['bot'] },
  })
  open.push(tokens)
  await start({ auth: { kind: 'token', tokens } })
  for (const name of ['app', 'secret']) registry.addImage(name, 'v1')
  const url = `${registry.url}/v2/app/manifests/v1`
  const challenge = (await fetch(url)).headers.get('www-authenticate')
  expect(challenge).toContain('scope="repository:app:pull"')
  const ask = async (scopes: string[], authorization?: string) => {
    const query = new URLSearchParams([
      ['service', tokens.service],
      ...scopes.map((s) => ['scope', s]),
    ])
    const headers = authorization === undefined ? {} : { authorization }
    const response = await fetch(`${tokens.realm}?${query.toString()}`, { headers })
    const body: { token?: string } = JSON.parse(await response.text())
    return { status: response.status, token: body.token }
  }
  const good = await ask(['repository:app:pull'])
  const authorization = `Bearer ${good.token ?? ''}`
  expect((await fetch(url, { headers: { authorization } })).status).toBe(200)
  const elsewhere = `${registry.url}/v2/secret/manifests/v1`
  expect((await fetch(elsewhere, { headers: { authorization } })).status).toBe(401)
  expect((await ask(['repository:app:pull', 'repository:other:pull'])).status).toBe(403)
  expect((await ask(['repository:secret:pull'])).status).toBe(403)
  const basic = `Basic ${Buffer.from('bot:s3cret').toString('base64')}`
  expect((await ask(['repository:secret:pull'], basic)).status).toBe(200)
  expect(tokens.requests.map((r) => r.scopes.length)).toEqual([1, 2, 1, 1])
  tokens.revokeAll()
  expect((await fetch(url, { headers: { authorization } })).status).toBe(401)
})

test('a stopped registry refuses connections and comes back on its port', async () => {
  await start()
  const url = `${registry.url}/v2/`
  await registry.stop()
  await expect(fetch(url)).rejects.toThrow()
  await registry.start()
  expect((await fetch(url)).status).toBe(200)
})

function later(value: string, ms = 30): Promise<string> {
  return new Promise((resolve) => setTimeout(resolve, ms, value))
}
