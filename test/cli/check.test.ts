import { writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { runCheck } from '../../src/cli/check.ts'
import type { Options } from '../../src/cli/arguments.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'

const CONFIG = `listen: ":5000"
storage: { directory: /var/lib/chandlery }
mirrors:
  docker.io:
    endpoint: ["https://mirror.example.com", "https://registry-1.docker.io"]
    rewrite: { "^cp/(.+)$": "team/$1x", "^alpine$": "x/y" }
    hosts: [hub.cache.internal]
  "*":
configs:
  "mirror.example.com":
    auth: { username: bot, password: { env: MIRROR_PASSWORD } }
  "registry-1.docker.io":
    auth: { username: bot, password: hunter2 }
freshness:
  rules:
    - { match: "docker.io/library/*:latest", ttl: 30s }
`

async function check(files: Record<string, string>, options: Options, env = {}) {
  await using directory = await temporaryDirectory()
  for (const [name, text] of Object.entries(files)) await writeFile(directory.join(name), text)
  const inside = Object.fromEntries(
    Object.entries(options).map(([key, value]) => [
      key,
      key === 'config' || key === 'registries' ? directory.join(String(value)) : value,
    ]),
  )
  const written = { stdout: '', stderr: '' }
  const output = (stream: 'stdout' | 'stderr') => ({
    write(text: string) {
      written[stream] += text.replaceAll(`${directory.path}/`, '')
    },
  })
  const io = { stdout: output('stdout'), stderr: output('stderr'), env }
  return { code: await runCheck(inside, io), ...written }
}

test("check prints a good configuration's warnings on stderr and its effective form on stdout, and exits with 0", async () => {
  const env = { MIRROR_PASSWORD: 'hunter2' }
  const { code, stdout, stderr } = await check({ 'c.yaml': CONFIG }, { config: 'c.yaml' }, env)
  expect(code).toBe(0)
  expect(stdout + stderr).not.toContain('hunter2')
  await expect(`${stderr}---\n${stdout}`).toMatchFileSnapshot('../golden/check-good.txt')
})

test('check without a configuration prints the built-in one', async () => {
  const { code, stdout, stderr } = await check({}, {})
  expect([code, stderr]).toEqual([0, ''])
  await expect(stdout).toMatchFileSnapshot('../golden/check-default.txt')
})

test('check prints every problem of a bad configuration on stderr and nothing on stdout, and exits with 1', async () => {
  const { code, stdout, stderr } = await check(
    {
      'c.yaml': `${CONFIG}lisen: :1\nclientStallTimeout: 5\n`,
      'r.yaml': 'mirrors: { "a.b": { endpoint: x } }\nauths: {}\n',
    },
    { config: 'c.yaml', registries: 'r.yaml' },
  )
  expect([code, stdout]).toEqual([1, ''])
  await expect(stderr).toMatchFileSnapshot('../golden/check-bad.txt')
})

test('check --json prints one object in both cases, and nothing on stderr', async () => {
  const good = await check(
    { 'c.yaml': CONFIG },
    { config: 'c.yaml', json: true },
    { MIRROR_PASSWORD: 'x' },
  )
  expect([good.code, good.stderr]).toEqual([0, ''])
  expect(JSON.parse(good.stdout)).toMatchObject({
    ok: true,
    problems: [
      { severity: 'warning', file: 'c.yaml', line: 6, column: 16 },
      { severity: 'warning', message: expect.stringContaining('not a valid name') },
      { severity: 'warning', path: ['mirrors', 'docker.io', 'rewrite', '^alpine$'] },
    ],
    config: { listen: ':5000', mirrors: { 'docker.io': { hosts: ['hub.cache.internal'] } } },
  })
  const bad = await check({}, { config: 'c.yaml', json: true })
  expect([bad.code, bad.stderr]).toEqual([1, ''])
  expect(JSON.parse(bad.stdout)).toEqual({
    ok: false,
    problems: [{ severity: 'error', source: 'c.yaml', path: [], message: 'there is no such file' }],
  })
})
