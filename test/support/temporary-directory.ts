// A directory of a test's own, removed with everything in it when the test lets go of it.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string
  /** A path inside the directory; nothing is created. */
  join(...parts: string[]): string
  remove(): Promise<void>
}

/** Creates an empty directory: `await using directory = await temporaryDirectory()`. */
export async function temporaryDirectory(name = 'chandlery-test'): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(tmpdir(), `${name}-`))
  // A server that is just closing may still write: a few tries, instead of ENOTEMPTY in a test.
  const remove = () => rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  return { path, join: (...parts) => join(path, ...parts), remove, [Symbol.asyncDispose]: remove }
}
