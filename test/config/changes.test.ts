import { expect, test } from 'vitest'
import { changedKeys, restartKeys, withoutRestart } from '../../src/config/changes.ts'
import type { Config } from '../../src/config/config.ts'
import { loadConfig } from '../../src/config/load.ts'
import { writeFile } from 'node:fs/promises'
import { temporaryDirectory } from '../support/temporary-directory.ts'

async function read(...texts: string[]): Promise<Config[]> {
  await using directory = await temporaryDirectory()
  const file = directory.join('c.yaml')
  const configs: Config[] = []
  for (const text of texts) {
    await writeFile(file, text)
    configs.push((await loadConfig({ config: file }, {})).config)
  }
  return configs
}

test.each([
  ['freshness: {ttl: 1m}', 'freshness: {ttl: 2m}', ['freshness.ttl']],
  ['{}', 'fetch: {piece: 4MiB}', ['fetch.piece']],
  ['{}', 'timeouts: {firstByte: 1s}', ['timeouts.firstByte']],
  ['{}', 'shutdownTimeout: 1s', ['shutdownTimeout']],
  ['{}', 'health: {probe: 30s}', ['health.probe']],
  ['mirrors: {a.test: {}, b.test: {}}', 'mirrors: {a.test: {}}', ['mirrors."b.test"']],
  ['mirrors: {a.test: {}}', '# moved\n\nmirrors: {a.test: {}}', []],
  [
    'mirrors: {a.test: {endpoint: [b.test], rewrite: {x: y, z: w}}}',
    'mirrors: {a.test: {endpoint: [b.test], rewrite: {z: w, x: y}}}',
    ['mirrors."a.test"'],
  ],
  [
    'configs: {a.test: {auth: &a {username: u, password: one}}}',
    'configs: {a.test: {auth: {username: u, password: two}}}',
    ['configs."a.test"'],
  ],
  [
    'configs: {a.test: {auth: {username: u, password: one}}}',
    'configs: {a.test: {auth: {username: u, password: one}}}',
    [],
  ],
  [
    'configs: {a.test: {proxy: "http://u:one@p:1"}}',
    'configs: {a.test: {proxy: "http://u:two@p:1"}}',
    ['configs."a.test"'],
  ],
  ['admin: {token: one}', 'admin: {token: two}', ['admin.token']],
] as const)(
  'a configuration of %s and then %s has the changes that are listed',
  async (before, after, keys) => {
    const [one, other] = await read(before, after)
    expect(changedKeys(one!, other!)).toEqual(keys)
    expect(restartKeys(one!, other!)).toEqual([])
    expect(withoutRestart(one!, other!)).toEqual(other)
  },
)

test('settings that are bound or opened at the start stay as they were, and all others are new', async () => {
  const [one, other] = await read(
    'admin: {token: one}',
    '{listen: ":7000", admin: {listen: ":7001", token: two}, storage: {directory: /x}, log: {level: warn}}',
  )
  expect(restartKeys(one!, other!)).toEqual(['listen', 'admin.listen', 'storage.directory'])
  const { listen, admin, storage, log } = withoutRestart(one!, other!)
  expect({ listen, storage }).toEqual({ listen: one!.listen, storage: one!.storage })
  expect([admin.listen, await admin.token?.read()]).toEqual([one!.admin.listen, 'two'])
  expect(log.level).toBe('warn')
})
