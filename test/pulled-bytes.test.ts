// What was received from upstream, by what it was: distribution's dashboards divide by it.
import { expect, test } from 'vitest'
import { mirrorOf, startChandlery } from './support/chandlery.ts'
import { startRegistry } from './support/registry.ts'
import { temporaryDirectory } from './support/temporary-directory.ts'

test('bytes received are counted as blob and manifest bytes, lists as neither', async () => {
  await using directory = await temporaryDirectory()
  await using registry = await startRegistry()
  await using chandlery = await startChandlery(
    directory.path,
    mirrorOf('registry.test', registry.url),
  )
  const image = registry.addImage('team/app', 'latest')
  const [blob] = image.blobs
  const paths = ['manifests/latest', `blobs/${blob!.digest}`, 'tags/list']
  for (const path of paths) {
    const response = await fetch(`${chandlery.url}/v2/team/app/${path}?ns=registry.test`)
    expect(response.status).toBe(200)
    await response.arrayBuffer()
  }
  const text = await (await fetch(`${chandlery.adminUrl}/metrics`)).text()
  const pulled = text.split('\n').filter((line) => line.startsWith('registry_proxy_pulled_bytes'))
  expect(pulled.toSorted()).toEqual([
    `registry_proxy_pulled_bytes_total{type="blob"} ${registry.bytesSent(blob!.digest)}`,
    `registry_proxy_pulled_bytes_total{type="manifest"} ${image.bytes.length}`,
  ])
})
