// A server that can open no file and no connection, in a process of its own: a real EMFILE.
import { type ChildProcess, execFile, fork } from 'node:child_process'
import { on } from 'node:events'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

import type { Message } from './support/out-of-descriptors.ts'
import { startRegistry } from './support/registry.ts'
import { temporaryDirectory } from './support/temporary-directory.ts'

/** No number of a descriptor may be above these: 0 to 2 are in use for as long as a process lives. */
const LIMITS = { none: 3, enough: 1024 }

/** Sets the limits that the process asks for, until it tells what came of it. */
async function outcomeOf(child: ChildProcess) {
  for await (const [message] of on(child, 'message', { close: ['exit'] })) {
    const told = message as Message
    if ('answers' in told) {
      return told
    }
    const limit = LIMITS[told.descriptors]
    await promisify(execFile)('prlimit', [`--pid=${child.pid}`, `--nofile=${limit}:`])
    child.send('done')
  }
  throw new Error('the process ended before it told anything')
}

test.runIf(process.platform === 'linux')(
  'a server out of file descriptors serves what is held, says 503 for the rest, and blames no upstream',
  async () => {
    await using directory = await temporaryDirectory()
    await using first = await startRegistry()
    await using second = await startRegistry()
    // So that each request needs a connection.
    first.fault({ headers: { connection: 'close' } })
    first.addImage('team/app', 'held')
    first.addImage('team/app', 'cold')
    const { digest } = first.addBlob(Buffer.from('content'))
    const script = join(import.meta.dirname, 'support/out-of-descriptors.ts')
    const args = [directory.path, first.url, second.url, digest]
    const child = fork(script, args, { execArgv: [] })
    using _ = { [Symbol.dispose]: () => child.kill('SIGKILL') }
    const { answers, metrics, log } = await outcomeOf(child)

    const { before, held, cold, blob, after, blobAfter } = answers
    expect(before).toMatchObject({ status: 200 })
    expect(held).toMatchObject({ status: 200, cache: expect.stringContaining('internal-error') })
    const refused = { status: 503, retryAfter: '5', text: expect.stringContaining('ulimit -n') }
    expect(cold).toMatchObject(refused)
    expect(blob).toMatchObject(refused)
    expect(second.requests).toEqual([])
    expect(after).toMatchObject({ status: 200 })
    expect(blobAfter).toMatchObject({ status: 200, text: 'content' })

    const lines = metrics.split('\n')
    const valuesOf = (name: string) => lines.filter((line) => line.match(/^\w+/)?.[0] === name)
    expect(Number(valuesOf('chandlery_unexpected_errors_total')[0]?.split(' ')[1])).toBeGreaterThan(
      2,
    )
    expect(valuesOf('chandlery_upstream_failures_total')).toEqual([])
    const states = valuesOf('chandlery_upstream_endpoint_state')
    expect(states.filter((line) => line.includes('"ok"') && line.endsWith(' 1'))).toHaveLength(2)
    expect(log).toContainEqual(
      expect.objectContaining({
        level: 'error',
        msg: expect.stringContaining('ulimit -n'),
        err: expect.objectContaining({ code: 'EMFILE', stack: expect.stringContaining(' at ') }),
      }),
    )
  },
)
