import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { temporaryDirectory } from '../support/temporary-directory.ts'

const LAUNCHER = join(import.meta.dirname, '../../bin/chandlery.js')
/** Runs a program as the first process of a namespace, as a container does. */
const FIRST = ['--pid', '--fork', '--kill-child', '--mount-proc']

function mayUnshare(): boolean {
  try {
    execFileSync('unshare', [...FIRST, 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

// Skipped if the user may not create namespaces.
describe.skipIf(!mayUnshare())('the launcher as process 1', () => {
  test.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('ends on %s while the server is still loading', async (signal, code) => {
    await using directory = await temporaryDirectory()
    for (const name of ['bin', 'src']) await mkdir(directory.join(name))
    await cp(LAUNCHER, directory.join('bin/chandlery.js'))
    await writeFile(directory.join('package.json'), '{"type":"module"}')
    // A module that never finishes loading, and sends the signal as soon as it has started to.
    const main = `setInterval(() => {}, 1_000)
process.kill(process.pid, '${signal}')
await new Promise(() => {})`
    await writeFile(directory.join('src/main.ts'), main)
    const args = [...FIRST, process.execPath, directory.join('bin/chandlery.js')]
    const child = spawn('unshare', args, {
      stdio: 'inherit',
      timeout: 5_000,
      killSignal: 'SIGKILL',
    })
    expect(await once(child, 'close')).toEqual([code, null])
  })
})
