// What is said of a response when it is over: as many body bytes as went out, also where it was cut.
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import type { RequestRecord } from '../../src/server/observer.ts'
import { rawRequest } from '../support/raw-client.ts'
import { FakeContent, patternBytes } from './fake-content.ts'
import { blobsOf, type RunningApp, startApp, type TestOptions } from './fixture.ts'
import { until } from '../support/until.ts'

const MIB = 1024 * 1024
const BYTES = patternBytes(8 * MIB)
const ARRIVED = 3 * MIB
const PATH = `/v2/library/alpine/blobs/${digestOf(BYTES)}`
/** More than boundaries and part heads take. */
const HEADS = 1000

type Said = Pick<RequestRecord, 'status' | 'aborted' | 'bytes'>

let app: RunningApp
/** As it was when it was said: a record goes on living. */
let said: Said[] = []
afterEach(() => app.stop())

async function start(options: TestOptions): Promise<void> {
  said = []
  const requestFinished = ({ status, aborted, bytes }: RequestRecord) =>
    void said.push({ status, aborted, bytes })
  const silent = { requestStarted() {}, connectionRefused() {}, unexpectedError() {} }
  const observer = { ...silent, requestFinished }
  app = await startApp({ ...options, observer })
}

describe('the bytes of a response that its client leaves', () => {
  it.each([
    ['the whole', undefined, ARRIVED],
    ['an open range', 'bytes=100-', ARRIVED - 100],
    ['a range that was not all there', `bytes=0-${4 * MIB}`, ARRIVED],
    ['several ranges', `bytes=100-199,1000-`, ARRIVED - 1000 + 100],
  ])('are those that went out, of %s', async (_what, range, sent) => {
    const content = new FakeContent(BYTES, ARRIVED)
    await start({ blobs: blobsOf(() => content) })
    const response = await rawRequest(app.url + PATH, { headers: range ? { range } : {} })
    const received = await response.read(sent)
    expect(received.length).toBe(sent)
    await until(() => content.waiters === 1)
    response.leave()
    await until(() => said.length === 1)
    const [record] = said
    expect(record).toMatchObject({ aborted: true, status: range ? 206 : 200 })
    expect(record!.bytes).toBeGreaterThanOrEqual(sent)
    expect(record!.bytes).toBeLessThan(sent + HEADS)
  })

  it('are those that the kernel accepted, where the client read nothing', async () => {
    const content = new FakeContent(patternBytes(64 * MIB))
    await start({ blobs: blobsOf(() => content) })
    const response = await rawRequest(app.url + PATH)
    response.pause()
    await until(() => content.reads > 1)
    await sleep(100)
    response.leave()
    await until(() => said.length === 1)
    expect(said[0]!.bytes).toBeGreaterThan(64 * 1024)
    expect(said[0]!.bytes).toBeLessThan(64 * MIB)
  })

  it('are none where its turn never came', async () => {
    const content = new FakeContent(BYTES, 0)
    const manifest = Buffer.from('{}')
    const served = { digest: digestOf(manifest), mediaType: 'a/b', size: 2, bytes: manifest }
    const get = async () => ({ ...served, cache: { state: 'hit' } as const })
    await start({ blobs: blobsOf(() => content), manifests: { get, head: get } })
    const paths = [PATH, '/v2/a/manifests/latest', PATH]
    const requests = paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
    const socket = connect(app.port, '127.0.0.1', () => socket.write(requests.join('')))
    await until(() => content.waiters === 2)
    socket.destroy()
    await until(() => said.length === 3)
    expect(said.map(({ aborted, bytes }) => [aborted, bytes])).toEqual(
      Array.from({ length: 3 }, () => [true, 0]),
    )
  })
})

it('the bytes of a completed response are all of its body', async () => {
  await start({ blobs: blobsOf(() => new FakeContent(BYTES)) })
  for (const range of ['bytes=0-', 'bytes=5-6', 'bytes=0-1,3-4']) {
    using response = await rawRequest(app.url + PATH, { headers: { range } })
    const { bytes } = await response.body()
    await until(() => said.length === 1)
    expect(said.pop()).toMatchObject({ aborted: false, bytes: bytes.length })
  }
})
