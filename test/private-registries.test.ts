// With "*" a client may name any registry, but must not make Chandlery ask its own network.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createWorld, type World } from './support/world.ts'

let world: World

// One for all tests: a request that is refused changes nothing.
beforeAll(async () => {
  world = await createWorld({ config: { mirrors: { '*': {} } } })
  world.upstream.addImage('team/app', 'latest')
})

afterAll(() => world[Symbol.asyncDispose]())

/** Ways to write this machine, as many as URL and resolver know. */
const LOOPBACK = [
  '127.0.0.1',
  '127.1',
  '127.0.0.1.',
  '0x7f000001',
  '0X7F.1',
  '0177.0.0.1',
  '017700000001',
  '2130706433',
  '0.0.0.0',
  '0',
  'localhost',
  'LOCALHOST',
  'localhost.',
  'registry.localhost',
  '[::1]',
  '[::]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[0:0:0:0:0:0:0:1]',
  '[::127.0.0.1]',
  '[64:ff9b::7f00:1]',
  '127%2e0.0.1',
  '１２７.0.0.1',
  'user@127.0.0.1',
]

test.each(LOOPBACK)('%s is not served, however it is named', async (host) => {
  const { upstream: inside, server } = world
  const registry = `${host}:${inside.port}`
  const at = encodeURIComponent(registry)
  const paths = [
    `/v2/team/app/manifests/latest?ns=${at}`,
    `/v2/team/app/manifests/latest?ns=${registry}`,
    `/${registry}/v2/team/app/manifests/latest`,
    `/v2/${registry}/team/app/manifests/latest`,
    `/v2/team/app/tags/list?ns=${at}`,
  ]
  for (const path of paths) {
    const response = await fetch(`${server.url}${path}`)
    const text = await response.text()
    expect([400, 404], `${response.status} of ${path}: ${text}`).toContain(response.status)
    expect(JSON.parse(text).errors[0].message).not.toBe('')
  }
  expect(inside.accepted).toBe(0)
})

test('a private address is refused with what to do about it', async () => {
  const { server } = world
  for (const registry of ['10.1.2.3', '192.168.0.1:5000', '169.254.169.254', 'registry:5000']) {
    const path = `/v2/team/app/manifests/latest?ns=${registry}`
    const response = await fetch(`${server.url}${path}`)
    expect(response.status).toBe(404)
    const [error] = JSON.parse(await response.text()).errors
    expect(error.code).toBe('NAME_UNKNOWN')
    expect(error.message).toContain(`"${registry}" is not served here ("*" covers no private`)
    expect(error.message).toContain('add it under mirrors')
  }
})
