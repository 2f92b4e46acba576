// What was received from upstream, by what it was: distribution's dashboards divide by it.
import { expect, test } from 'vitest'
import { createWorld } from './support/world.ts'

test('received bytes are counted as blob and manifest bytes, and lists as neither', async () => {
  await using world = await createWorld()
  const { upstream, client } = world
  const image = upstream.addImage('team/app', 'latest')
  const [blob] = image.blobs
  const paths = ['manifests/latest', `blobs/${blob!.digest}`, 'tags/list']
  for (const path of paths) expect((await client.get(path)).status).toBe(200)
  const { text } = await client.admin('/metrics')
  const pulled = text.split('\n').filter((line) => line.startsWith('registry_proxy_pulled_bytes'))
  expect(pulled.toSorted()).toEqual([
    `registry_proxy_pulled_bytes_total{type="blob"} ${upstream.bytesSent(blob!.digest)}`,
    `registry_proxy_pulled_bytes_total{type="manifest"} ${image.bytes.length}`,
  ])
})
