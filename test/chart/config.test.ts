import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parse } from 'yaml'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runCheck } from '../../src/cli/check.ts'
import { createAuthority, type TestAuthority } from '../support/certificates.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import { configFileOf, serverOf } from './pod.ts'
import { CASES, objectOf } from './rendered.ts'

let authority: TestAuthority
beforeAll(async () => {
  authority = await createAuthority()
})
afterAll(() => authority[Symbol.asyncDispose]())

/** Runs chandlery check as in the pod of the case, with its mounts below the directory. */
async function check(name: string, directory: string): Promise<string> {
  const moved = (text: string) => text.replaceAll('/etc/chandlery/', `${directory}/`)
  const file = moved(configFileOf(name))
  const env = (serverOf(name).env ?? []).map(({ name: key, value }) => [key, moved(value ?? '')])
  for (const [path] of file.matchAll(new RegExp(`${directory}/[\\w./-]+`, 'g'))) {
    await write(path, contentOf(path))
  }
  await write(`${directory}/config/chandlery.yaml`, file)
  const { CHANDLERY_REGISTRIES: registries } = Object.fromEntries(env) as Record<string, string>
  if (registries) await write(registries, k3sFileOf(name))
  const ours = Object.fromEntries(env.filter(([key]) => key?.startsWith('CHANDLERY_')))
  const printed = { stdout: '', stderr: '' }
  const to = (stream: 'stdout' | 'stderr') => ({
    write: (text: string) => (printed[stream] += text),
  })
  const code = await runCheck({}, { stdout: to('stdout'), stderr: to('stderr'), env: ours })
  expect(printed.stderr).toBe('')
  expect(code).toBe(0)
  return printed.stdout
}

/** Returns valid content for a file of this name; chandlery check refuses any other content. */
function contentOf(path: string): string {
  if (path.endsWith('.crt')) return authority.ca.cert
  if (path.endsWith('.key')) return authority.ca.key
  return path.endsWith('json') ? '{}' : 'secret'
}

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
}

function k3sFileOf(name: string): string {
  if (name !== 'host-port') return 'mirrors: {}'
  const { stringData } = objectOf(name, 'Secret', 'chandlery-cache-registries')
  return (stringData as { 'registries.yaml': string })['registries.yaml']
}

test.each(CASES)('chandlery check accepts the configuration of the case %s', async (name) => {
  await using directory = await temporaryDirectory('chandlery-chart')
  expect(await check(name, directory.path)).toContain('storage:')
})

test("K3s's own file arrives word for word, with its rules in order", async () => {
  await using directory = await temporaryDirectory('chandlery-chart')
  const printed = await check('host-port', directory.path)
  expect(printed.indexOf('^z/')).toBeGreaterThan(0)
  expect(printed.indexOf('^z/')).toBeLessThan(printed.indexOf('^a/'))
})

test('what the values add to config is merged with what config says', () => {
  expect(parse(configFileOf('everything'))).toMatchObject({
    tls: { certFile: '/etc/chandlery/tls/tls.crt', keyFile: '/etc/chandlery/tls/tls.key' },
    admin: { token: { file: '/etc/chandlery/admin/admin' } },
    dockerConfig: [
      '/etc/chandlery/secrets/own/config.json',
      '/etc/chandlery/docker-config/hub-login/.dockerconfigjson',
      '/etc/chandlery/docker-config/ghcr.login/.dockerconfigjson',
    ],
    health: { probe: 'off' },
    fetch: { connections: 8 },
  })
  expect(parse(configFileOf('default'))).toEqual({ shutdownDelay: '5s' })
})
