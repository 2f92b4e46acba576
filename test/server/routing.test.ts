import { expect, it } from 'vitest'
import type { AppOptions } from '../../src/server/app.ts'
import { Registries } from '../../src/upstream/routing/registries.ts'

it('the real registries route for the server', () => {
  const registries: AppOptions['registries'] = new Registries({
    defaultRegistry: 'docker.io',
    defaultEndpoints: true,
    mirrors: [{ registry: 'docker.io', endpoints: [], rewrites: [], hosts: [] }],
  })
  const routed = registries.route(
    { kind: 'manifest', name: 'alpine', reference: 'latest' },
    { host: 'cache:5000' },
  )
  expect(routed).toMatchObject({
    repository: { registry: 'docker.io', name: 'library/alpine' },
    clientName: 'alpine',
    clientPrefix: '',
  })
})
