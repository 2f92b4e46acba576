// What metrics and log say of endpoints that failed, whoever helped out in the end.
import { describe, expect, test } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import type { Fault } from './support/faults.ts'
import { createWorld, type World } from './support/world.ts'

const PAGE = { status: 200, body: '<html>Sign in</html>', headers: { 'content-type': 'text/html' } }

/** The samples of these metrics that are not 0, as "name{labels} value" with `bad` for the first endpoint. */
async function counted(world: World, ...names: string[]): Promise<string[]> {
  const { text } = await world.client.admin('/metrics')
  return text
    .split('\n')
    .filter((line) => names.some((name) => line.startsWith(`${name}{`)) && !line.endsWith(' 0'))
    .map((line) => line.replace(`${world.upstream.url}/v2`, 'bad'))
    .map((line) => line.replace(`${world.other.url}/v2`, 'good'))
}

const FAILURES = 'chandlery_upstream_failures_total'
const VERIFICATION = 'chandlery_verification_failures_total'

describe('a manifest that the first endpoint gives wrong and the second right', () => {
  test.each<[string, Fault]>([
    ['wrong-digest', { corruptAt: -1 }],
    ['not-a-manifest', PAGE],
    ['too-large', { status: 200, body: Buffer.alloc(9 * 1024 * 1024, ' ') }],
  ])('is counted and logged once: %s', async (reason, fault) => {
    await using world = await createWorld({ upstreams: [{}, {}] })
    const { upstream: bad, other: good } = world
    const image = good.addImage('team/app', 'latest')
    bad.addImage('team/app', 'latest')
    // Within the digest of the config, so that it stays a manifest.
    const at = image.bytes.indexOf('sha256:') + 70
    const wrong = fault.corruptAt === undefined ? fault : { corruptAt: at }
    bad.fault({ match: { method: 'GET', kind: 'manifest' }, ...wrong })
    const response = await world.client.get(`manifests/${image.digest}`)
    expect(digestOf(response.bytes)).toBe(image.digest)
    expect(await counted(world, FAILURES, VERIFICATION)).toEqual([
      `${FAILURES}{endpoint="bad",reason="${reason}"} 1`,
      `${VERIFICATION}{endpoint="bad"} 1`,
    ])
    const told = world.server.log.filter((line) => line['reason'] === reason)
    expect(told).toMatchObject([{ level: 'warn', endpoint: `${bad.url}/v2`, kind: 'manifest' }])
  })
})

test('every failed endpoint is counted once, whatever is asked for and however it ends', async () => {
  await using world = await createWorld({ upstreams: [{}, {}] })
  const { upstream: bad, other: good } = world
  bad.fault({ status: 500 })
  good.fault({ status: 502 })
  const digest = digestOf(Buffer.from('x'))
  for (const path of ['manifests/x', `manifests/${digest}`, 'tags/list', `referrers/${digest}`]) {
    expect((await world.client.get(path)).status).toBe(502)
  }
  expect(await counted(world, FAILURES)).toEqual([
    `${FAILURES}{endpoint="bad",reason="server-error"} 4`,
    `${FAILURES}{endpoint="good",reason="server-error"} 4`,
  ])
})

test('the failed attempts of a blob are counted, and logged once', async () => {
  await using world = await createWorld({ upstreams: [{}, {}] })
  const { upstream: bad, other: good } = world
  const { digest } = good.addBlob(Buffer.from('content'))
  bad.fault({ status: 500 })
  expect((await world.client.blob(digest)).text).toBe('content')
  expect(await counted(world, FAILURES)).toEqual([
    `${FAILURES}{endpoint="bad",reason="server-error"} 1`,
  ])
  expect(world.server.log.filter((line) => line['reason'] === 'server-error')).toHaveLength(1)
})

test('a HEAD that is refused where GET is not does not count as a failure', async () => {
  await using world = await createWorld({ upstreams: [{}, {}] })
  const { upstream: bad } = world
  bad.addImage('team/app', 'latest')
  bad.fault({ match: { method: 'HEAD' }, status: 405 })
  expect((await world.client.manifest('latest', { method: 'HEAD' })).status).toBe(200)
  expect(await counted(world, FAILURES)).toEqual([])
})
