import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { startChandlery } from '../support/chandlery.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import type { PodSpec } from './pod.ts'
import { objectOf } from './rendered.ts'

const { containers } = objectOf('default', 'Pod')['spec'] as PodSpec
const [{ command = [], args = [], env = [] } = {}] = containers as readonly {
  readonly command?: readonly string[]
  readonly args?: readonly string[]
  readonly env?: readonly { readonly name: string; readonly value: string }[]
}[]

/** Runs the script of the pod with other addresses. */
async function runTest(admin: string, registry: string, patienceMs = 1500): Promise<string> {
  const { stdout } = await promisify(execFile)('node', [...command.slice(1), ...args], {
    env: {
      ADMIN_URL: `${admin}/readyz`,
      REGISTRY_URL: `${registry}/v2/`,
      PATIENCE_MS: String(patienceMs),
    },
  })
  return stdout
}

test('helm test asks the release for /readyz and /v2/', () => {
  expect(env).toEqual([
    { name: 'ADMIN_URL', value: 'http://chandlery-headless:5001/readyz' },
    { name: 'REGISTRY_URL', value: 'http://chandlery:5000/v2/' },
  ])
})

test('helm test passes where a server is ready', async () => {
  await using directory = await temporaryDirectory('chandlery-chart')
  await using chandlery = await startChandlery(directory.path, {})
  const said = await runTest(chandlery.adminUrl, chandlery.url)
  expect(said.match(/^ok /gm)).toHaveLength(2)
})

test('helm test fails where nobody answers, or something else does', async () => {
  await using directory = await temporaryDirectory('chandlery-chart')
  await using chandlery = await startChandlery(directory.path, {})
  const { adminUrl, url } = chandlery
  await Promise.all([
    expect(runTest('http://127.0.0.1:1', url, 300)).rejects.toThrow(
      /FAILED.*ECONNREFUSED|bad port/,
    ),
    expect(runTest(adminUrl, adminUrl, 300)).rejects.toThrow(/FAILED.*404/),
  ])
})
