// What every command exits with, as a process: 0 done, 1 it failed, 2 wrong usage.
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const CHANDLERY = new URL('../bin/chandlery.js', import.meta.url).pathname

let directory: TemporaryDirectory

beforeAll(async () => {
  directory = await temporaryDirectory()
  await writeFile(directory.join('good.yaml'), 'log: { level: silent }\n')
  await writeFile(directory.join('bad.yaml'), 'log: { level: loud }\n')
})
afterAll(() => directory.remove())

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function run(args: string, env: Record<string, string>): Promise<Outcome> {
  const words = args === '' ? [] : args.split(' ')
  const options = { cwd: directory.path, env: { PATH: process.env['PATH'], ...env } }
  return new Promise((resolve) => {
    execFile(process.execPath, [CHANDLERY, ...words], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

type Case = readonly [args: string, code: 0 | 1 | 2, says: RegExp, env?: Record<string, string>]

const CASES: readonly Case[] = [
  ['check --config good.yaml', 0, /^listen:/],
  ['explain --config good.yaml alpine', 0, /docker\.io/],
  // The command line.
  ['serve --log-level loud', 2, /--log-level: "loud" is not a log level/],
  ['check --log-level loud', 2, /--log-level: "loud" is not a log level/],
  ['check --json --log-level loud', 2, /"source": "--log-level"/],
  ['check --admin-listen 5000', 2, /--admin-listen: "5000" is not an address/],
  ['check --listen :5001', 2, /listen already uses/],
  ['explain --directory= alpine', 2, /--directory needs a value/],
  ['explain --config good.yaml Alpine', 2, /try: chandlery explain --help/],
  ['serv', 2, /did you mean serve/],
  ['check --config bad.yaml --listen nonsense', 2, /bad\.yaml:1.*no|--listen/],
  // Everything else.
  ['check --config bad.yaml', 1, /bad\.yaml:1:15 log\.level/],
  ['serve --config bad.yaml', 1, /bad\.yaml:1:15 log\.level/],
  ['explain --config bad.yaml alpine', 1, /bad\.yaml:1:15 log\.level/],
  ['serve --config none.yaml', 1, /none\.yaml/],
  ['check', 1, /CHANDLERY_LISTEN: "nonsense"/, { CHANDLERY_LISTEN: 'nonsense' }],
  ['check', 1, /environment: HTTPS_PROXY ftp: is no scheme/, { HTTPS_PROXY: 'ftp://u:secret@p' }],
  ['explain --config good.yaml other.test/a', 1, /other\.test/],
]

describe.concurrent('chandlery', () => {
  test.for(CASES)('%s exits with %d', async ([args, code, says, env = {}]) => {
    const outcome = await run(args, env)
    expect(outcome).toMatchObject({ code })
    const told = outcome.stdout + outcome.stderr
    expect(told).toMatch(says)
    expect(told).not.toMatch(/secret|\bat .*\.ts:\d/)
  })
})
