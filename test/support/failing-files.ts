// Files that fail: what Node's file handles do is met with a system error, in this whole process.
import { type FileHandle, open } from 'node:fs/promises'

export type FileOperation = 'writev' | 'sync' | 'read'

export interface FailingFiles extends Disposable {
  /** How often something failed. */
  readonly failures: number
}

/** The nth call of an operation (from 0) and all after it fail with this code, until it is disposed of. */
export async function failFiles(
  operation: FileOperation,
  code: string,
  after = 0,
): Promise<FailingFiles> {
  const some = await open(import.meta.filename)
  const handles = Object.getPrototypeOf(some) as FileHandle
  await some.close()
  const original = handles[operation] as (...args: unknown[]) => Promise<unknown>
  let calls = 0
  const replaced = async function (this: FileHandle, ...args: unknown[]): Promise<unknown> {
    calls += 1
    if (calls <= after) return await original.apply(this, args)
    throw Object.assign(new Error(`${code}: made to fail, ${operation}`), { code })
  }
  Object.assign(handles, { [operation]: replaced })
  return {
    get failures() {
      return Math.max(0, calls - after)
    },
    [Symbol.dispose]: () => void Object.assign(handles, { [operation]: original }),
  }
}
