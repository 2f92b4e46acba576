// Translates the operating system's error codes into what they mean for the store and how to fix
// them.

import { constants } from 'node:os'

/**
 * Names of error numbers. libuv knows only some of them: for EDQUOT, Node's `code` is "Unknown
 * system error -122".
 */
const NAMES: ReadonlyMap<number, string> = new Map([
  ...Object.entries(constants.errno).map(([name, number]) => [number, name] as const),
  ...(process.platform === 'linux'
    ? ([
        [117, 'EUCLEAN'],
        [121, 'EREMOTEIO'],
        [123, 'ENOMEDIUM'],
      ] as const)
    : []),
])

/**
 * Returns the code of a system error ("ENOENT"), or undefined for any other error, Node's "ERR_…"
 * included.
 */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') {
    return undefined
  }
  const [, number] = /^Unknown system error -([0-9]+)$/.exec(error.code) ?? []
  if (number !== undefined) return NAMES.get(Number(number))
  return /^E[A-Z0-9]+$/.test(error.code) ? error.code : undefined
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

/**
 * Reports whether nothing is at the path: no such file, or a file in place of a directory, or vice
 * versa.
 */
export function isAbsent(error: unknown): boolean {
  const code = errnoOf(error)
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR'
}

/** What is wrong with the storage itself, as opposed to the content. */
export type StorageTrouble = 'full' | 'read-only' | 'broken' | 'missing'

const TROUBLES: ReadonlyMap<string, StorageTrouble> = new Map([
  ['ENOSPC', 'full'],
  ['EDQUOT', 'full'],
  ['EFBIG', 'full'], // full for this blob: ulimit -f, or the file system's largest file size
  ['EROFS', 'read-only'],
  ['EACCES', 'read-only'],
  ['EPERM', 'read-only'],
  ['EIO', 'broken'],
  ['EREMOTEIO', 'broken'],
  ['EUCLEAN', 'broken'], // ext4 and xfs: the file system's own structures are damaged
  ['EBADMSG', 'broken'],
  ['ENXIO', 'broken'],
  ['ENODEV', 'broken'],
  ['ENOMEDIUM', 'broken'],
  ['ENOENT', 'missing'],
  ['ENOTDIR', 'missing'],
  ['ESTALE', 'missing'], // NFS: the directory has been replaced
])

/** Bounds the walk along `cause`: a chain may be circular. */
const MAX_CAUSES = 8

/**
 * Returns what a failed read or write says about the storage. Looks at the causes of `error` as
 * well.
 */
export function storageTrouble(error: unknown): StorageTrouble | undefined {
  let at = error
  for (let depth = 0; depth < MAX_CAUSES && at instanceof Error; depth++) {
    const trouble = TROUBLES.get(errnoOf(at) ?? '')
    if (trouble !== undefined) return trouble
    at = at.cause
  }
  return undefined
}

// The number, not the name: users in containers often have no name, and chown takes the number.
const user = process.geteuid ? `user ${process.geteuid()}` : 'this user'
const FORBIDDEN = `${user} may not write there: change its owner or mode, or set storage.directory`

const CURES: Readonly<Record<string, string>> = {
  EACCES: FORBIDDEN,
  EPERM: FORBIDDEN,
  EROFS: 'the file system is read-only: mount it writable, or set storage.directory',
  ENOTDIR: 'a part of the path is a file: remove it, or set storage.directory',
  EEXIST: 'a part of the path is a file: remove it, or set storage.directory',
  ENOENT: 'it does not exist and could not be created: create it, or set storage.directory',
  ENOSPC: 'the file system is full: free some space, or set storage.directory to a larger one',
  EDQUOT: 'the quota is used up: raise it, or set storage.directory',
  EXDEV: 'parts of it are on different file systems: mount one file system for all of it',
  EMFILE: 'too many open files: raise the limit of open files (ulimit -n)',
  EIO: 'the device reports an I/O error: check the disk and the kernel log',
}

/**
 * Returns a system error as a sentence that names the directory and the cure. Returns other errors
 * as they are.
 */
export function explainStorageError(error: unknown, directory: string): Error {
  const code = errnoOf(error)
  if (code === undefined) return asError(error)
  const cure = CURES[code] ?? asError(error).message
  return new Error(`cannot use the storage directory ${directory} (${code}): ${cure}`, {
    cause: error,
  })
}
