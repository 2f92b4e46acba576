// Rewrites and tokens together: whatever the client calls a repository, the token server is asked
// for exactly one scope, that of the name in the request the registry gets.
import { expect, test } from 'vitest'
import { startChandlery } from './support/chandlery.ts'
import { startRegistry } from './support/registry.ts'
import { temporaryDirectory } from './support/temporary-directory.ts'
import { startTokenServer } from './support/token-server.ts'

test('two rewrite rules for two registries on one strict token server ask for one scope each', async () => {
  await using directory = await temporaryDirectory()
  await using tokens = await startTokenServer({
    repositories: { 'cache/hub/library/alpine': 'anonymous', 'cache/quay/team/app': 'anonymous' },
  })
  await using upstream = await startRegistry({ auth: { kind: 'token', tokens } })
  const hub = upstream.addImage('cache/hub/library/alpine', 'v1')
  const quay = upstream.addImage('cache/quay/team/app', 'v1')
  await using chandlery = await startChandlery(directory.path, {
    defaultEndpoints: false,
    mirrors: {
      'docker.io': {
        endpoint: [upstream.url],
        rewrite: { '^library/(.*)$': 'cache/hub/library/$1' },
      },
      'quay.io': { endpoint: [upstream.url], rewrite: { '(.*)': 'cache/quay/$1' } },
    },
  })
  for (const [name, image] of [
    ['docker.io/library/alpine', hub],
    ['quay.io/team/app', quay],
  ] as const) {
    const base = `${chandlery.url}/v2/${name}`
    const manifest = await fetch(`${base}/manifests/v1`)
    expect(manifest.headers.get('docker-content-digest')).toBe(image.digest)
    for (const { digest } of image.blobs) {
      const blob = await fetch(`${base}/blobs/${digest}`)
      expect(blob.status).toBe(200)
      await blob.arrayBuffer()
    }
  }
  const asked = tokens.requests.map(({ scopes, status }) => ({ scopes, status }))
  expect(asked).toEqual([
    { scopes: ['repository:cache/hub/library/alpine:pull'], status: 200 },
    { scopes: ['repository:cache/quay/team/app:pull'], status: 200 },
  ])
})
