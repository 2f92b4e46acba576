// Rewrites and tokens together: whatever the client calls a repository, the token server is asked
// for exactly one scope, that of the name in the request the registry gets.
import { expect, test } from 'vitest'
import { startTokenServer } from './support/token-server.ts'
import { createWorld } from './support/world.ts'

const mirrors = (endpoint: string) => ({
  'docker.io': { endpoint: [endpoint], rewrite: { '^library/(.*)$': 'cache/hub/library/$1' } },
  'quay.io': { endpoint: [endpoint], rewrite: { '(.*)': 'cache/quay/$1' } },
})

test('two rewrite rules for two registries on one strict token server ask for one scope each', async () => {
  await using tokens = await startTokenServer({
    repositories: { 'cache/hub/library/alpine': 'anonymous', 'cache/quay/team/app': 'anonymous' },
  })
  await using world = await createWorld({
    upstreams: [{ auth: { kind: 'token', tokens } }],
    config: ([upstream]) => ({ mirrors: mirrors(upstream!.url) }),
  })
  const { upstream, server } = world
  const hub = upstream.addImage('cache/hub/library/alpine', 'v1')
  const quay = upstream.addImage('cache/quay/team/app', 'v1')
  for (const [name, image] of [
    ['docker.io/library/alpine', hub],
    ['quay.io/team/app', quay],
  ] as const) {
    const base = `${server.url}/v2/${name}`
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
