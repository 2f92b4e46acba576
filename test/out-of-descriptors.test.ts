// A server without a free file descriptor, in a process of its own: a real EMFILE.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

import { startRegistry } from './support/registry.ts'
import { temporaryDirectory } from './support/temporary-directory.ts'

/** Enough for Chandlery itself, and soon used up. */
const LIMIT = 200

test('a server out of file descriptors serves what is held, says 503 for the rest, and blames no upstream', async () => {
  await using directory = await temporaryDirectory()
  await using first = await startRegistry()
  await using second = await startRegistry()
  // So that each request needs a connection.
  first.fault({ headers: { connection: 'close' } })
  first.addImage('team/app', 'held')
  first.addImage('team/app', 'cold')
  const { digest } = first.addBlob(Buffer.from('content'))
  const { stdout } = await promisify(execFile)('bash', [
    '-c',
    `ulimit -n ${LIMIT}; exec "$@"`,
    'bash',
    process.execPath,
    join(import.meta.dirname, 'support/out-of-descriptors.ts'),
    directory.path,
    first.url,
    second.url,
    digest,
  ])
  const outcome = JSON.parse(stdout)
  expect(outcome.before).toMatchObject({ status: 200 })
  expect(outcome.held).toMatchObject({
    status: 200,
    cache: expect.stringContaining('internal-error'),
  })
  const refused = { status: 503, retryAfter: '5', text: expect.stringContaining('ulimit -n') }
  expect(outcome.cold).toMatchObject(refused)
  expect(outcome.coldBlob).toMatchObject(refused)
  expect(second.requests).toEqual([])
  expect(outcome.after).toMatchObject({ status: 200 })
  expect(outcome.afterBlob).toMatchObject({ status: 200, text: 'content' })

  const metric = (name: string) => {
    const lines: string[] = outcome.metrics.split('\n')
    return lines.filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
  }
  expect(Number(metric('chandlery_unexpected_errors_total')[0]?.split(' ')[1])).toBeGreaterThan(2)
  expect(metric('chandlery_upstream_failures_total')).toEqual([])
  const states = metric('chandlery_upstream_endpoint_state').filter((line) => line.endsWith(' 1'))
  expect(states).toHaveLength(2)
  for (const state of states) expect(state).toContain('state="ok"')
  const messages = outcome.log.map(({ msg }: { msg: string }) => msg)
  expect(messages.filter((message: string) => message.includes('ulimit -n'))).toHaveLength(1)
})
