// What metrics and log say of endpoints that failed, whoever helped out in the end.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import { mirrorOf, type RunningChandlery, startChandlery } from './support/chandlery.ts'
import type { Fault } from './support/faults.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const REGISTRY = 'registry.test'
const PAGE = { status: 200, body: '<html>Sign in</html>', headers: { 'content-type': 'text/html' } }

let directory: TemporaryDirectory
let bad: TestRegistry
let good: TestRegistry
let chandlery: RunningChandlery

beforeEach(async () => {
  directory = await temporaryDirectory()
  bad = await startRegistry()
  good = await startRegistry()
  chandlery = await startChandlery(directory.path, mirrorOf(REGISTRY, bad.url, good.url))
})

afterEach(async () => {
  await chandlery.stop()
  await Promise.all([bad.close(), good.close()])
  await directory.remove()
})

function get(path: string): Promise<Response> {
  return fetch(`${chandlery.url}/v2/team/app/${path}?ns=${REGISTRY}`)
}

/** The samples of these metrics that are not 0, as "name{labels} value" with `bad` for the bad endpoint. */
async function counted(...names: string[]): Promise<string[]> {
  const text = await (await fetch(`${chandlery.adminUrl}/metrics`)).text()
  return text
    .split('\n')
    .filter((line) => names.some((name) => line.startsWith(`${name}{`)) && !line.endsWith(' 0'))
    .map((line) => line.replace(`${bad.url}/v2`, 'bad').replace(`${good.url}/v2`, 'good'))
}

const FAILURES = 'chandlery_upstream_failures_total'
const VERIFICATION = 'chandlery_verification_failures_total'

describe('a manifest that the first endpoint gives wrong and the second right', () => {
  test.each<[string, Fault]>([
    ['wrong-digest', { corruptAt: -1 }],
    ['not-a-manifest', PAGE],
    ['too-large', { status: 200, body: Buffer.alloc(9 * 1024 * 1024, ' ') }],
  ])('is counted and told once: %s', async (reason, fault) => {
    const image = good.addImage('team/app', 'latest')
    bad.addImage('team/app', 'latest')
    // Within the digest of the config, so that it stays a manifest.
    const at = image.bytes.indexOf('sha256:') + 70
    const wrong = fault.corruptAt === undefined ? fault : { corruptAt: at }
    bad.fault({ match: { method: 'GET', kind: 'manifest' }, ...wrong })
    const response = await get(`manifests/${image.digest}`)
    expect(digestOf(Buffer.from(await response.arrayBuffer()))).toBe(image.digest)
    expect(await counted(FAILURES, VERIFICATION)).toEqual([
      `${FAILURES}{endpoint="bad",reason="${reason}"} 1`,
      `${VERIFICATION}{endpoint="bad"} 1`,
    ])
    const told = chandlery.log.filter((line) => line['reason'] === reason)
    expect(told).toMatchObject([{ level: 'warn', endpoint: `${bad.url}/v2`, kind: 'manifest' }])
  })
})

test('every failed endpoint is counted once, whatever is asked for and however it ends', async () => {
  bad.fault({ status: 500 })
  good.fault({ status: 502 })
  const digest = digestOf(Buffer.from('x'))
  for (const path of ['manifests/x', `manifests/${digest}`, 'tags/list', `referrers/${digest}`]) {
    expect((await get(path)).status).toBe(502)
  }
  expect(await counted(FAILURES)).toEqual([
    `${FAILURES}{endpoint="bad",reason="server-error"} 4`,
    `${FAILURES}{endpoint="good",reason="server-error"} 4`,
  ])
})

test('a blob’s failed tries are counted, and told once', async () => {
  const { digest } = good.addBlob(Buffer.from('content'))
  bad.fault({ status: 500 })
  expect(await (await get(`blobs/${digest}`)).text()).toBe('content')
  expect(await counted(FAILURES)).toEqual([`${FAILURES}{endpoint="bad",reason="server-error"} 1`])
  expect(chandlery.log.filter((line) => line['reason'] === 'server-error')).toHaveLength(1)
})

test('a HEAD that is refused where GET is not is no failure', async () => {
  bad.addImage('team/app', 'latest')
  bad.fault({ match: { method: 'HEAD' }, status: 405 })
  const url = `${chandlery.url}/v2/team/app/manifests/latest?ns=${REGISTRY}`
  expect((await fetch(url, { method: 'HEAD' })).status).toBe(200)
  expect(await counted(FAILURES)).toEqual([])
})
