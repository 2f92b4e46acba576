// Makes file operations of Node fail with a system error or hang, or records them, in this whole
// process.
import fs, { type FileHandle, open } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'

export type FileOperation = 'writev' | 'sync' | 'read'

export interface FailingFiles extends Disposable {
  /** How many calls have failed. */
  readonly failures: number
}

/**
 * Makes the nth call of an operation (from 0) and all later ones fail with this code, until it is
 * disposed of.
 */
export async function failFiles(
  operation: FileOperation,
  code: string,
  after = 0,
): Promise<FailingFiles> {
  const handles = await fileHandles()
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

export interface HangingFiles extends Disposable {
  /** How many calls have been held up so far. */
  readonly count: number
}

type HangingName = 'datasync' | 'mkdir' | 'rm'

/**
 * A disk that hangs: calls of these functions do not begin until it is disposed of. `datasync` is
 * that of file handles; the others are functions of `node:fs/promises`.
 */
export async function hangFiles(...names: HangingName[]): Promise<HangingFiles> {
  return await hang(names, () => true)
}

/** Like `hangFiles`, but only for paths below a directory. */
export async function hangFilesBelow(
  directory: string,
  ...names: Exclude<HangingName, 'datasync'>[]
): Promise<HangingFiles> {
  return await hang(names, (path) => String(path).startsWith(directory))
}

async function hang(
  names: readonly HangingName[],
  hangs: (path: unknown) => boolean,
): Promise<HangingFiles> {
  const handles = await fileHandles()
  const released = Promise.withResolvers<void>()
  let count = 0
  const undo = names.map((name) => {
    const owner = (name === 'datasync' ? handles : fs) as unknown as Record<string, AnyFunction>
    const original = owner[name]!
    owner[name] = async function (this: unknown, ...args: unknown[]) {
      if (hangs(args[0])) {
        count += 1
        await released.promise
      }
      return await original.apply(this, args)
    }
    return () => (owner[name] = original)
  })
  syncBuiltinESMExports()
  const release = () => {
    for (const each of undo) each()
    syncBuiltinESMExports()
    released.resolve()
  }
  return {
    get count() {
      return count
    },
    [Symbol.dispose]: release,
  }
}

export interface Flush {
  readonly path: string
  /** The entries of a directory at that time. */
  readonly names?: readonly string[]
}

/** Records what is flushed to the disk, in order, until it is disposed of. Linux only. */
export async function recordFlushes(): Promise<Disposable & { readonly flushes: Flush[] }> {
  const handles = (await fileHandles()) as unknown as Record<string, AnyFunction>
  const flushes: Flush[] = []
  const undo = ['sync', 'datasync'].map((name) => {
    const original = handles[name]!
    handles[name] = async function (this: unknown, ...args: unknown[]) {
      const path = await fs.readlink(`/proc/self/fd/${(this as FileHandle).fd}`)
      const names = await fs.readdir(path).catch(() => undefined)
      await original.apply(this, args)
      flushes.push(names === undefined ? { path } : { path, names })
    }
    return () => (handles[name] = original)
  })
  const dispose = () => {
    for (const each of undo) each()
  }
  return { flushes, [Symbol.dispose]: dispose }
}

type AnyFunction = (...args: unknown[]) => Promise<unknown>

/** Returns the prototype of file handles. */
async function fileHandles(): Promise<FileHandle> {
  const some = await open(import.meta.filename)
  await some.close()
  return Object.getPrototypeOf(some) as FileHandle
}
