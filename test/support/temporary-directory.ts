// A temporary directory for one test, removed with its content when it is disposed of.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string
  /** Returns a path inside the directory. It creates nothing. */
  join(...parts: string[]): string
  remove(): Promise<void>
}

/** Creates an empty directory: `await using directory = await temporaryDirectory()`. */
export async function temporaryDirectory(name = 'chandlery-test'): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(tmpdir(), `${name}-`))
  // Retry: a server that is still closing may write meanwhile, and the removal fail with ENOTEMPTY.
  const remove = () => rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  return { path, join: (...parts) => join(path, ...parts), remove, [Symbol.asyncDispose]: remove }
}
