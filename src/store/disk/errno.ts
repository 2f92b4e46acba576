// What the operating system's error codes mean to the store, and what to do about them.

import { constants } from 'node:os'

/** What Node has no name for where we meet it: it says "Unknown system error -122". */
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

/** The code of a system error ("ENOENT"), if it is one; Node's own codes ("ERR_…", "ABORT_ERR") are not. */
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

/** Nothing is there: no such file, a file where a directory would be, or the other way round. */
export function isAbsent(error: unknown): boolean {
  const code = errnoOf(error)
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR'
}

/** What is wrong with the place where content is kept, as far as it is not the content's own fault. */
export type StorageTrouble = 'full' | 'read-only' | 'broken' | 'missing'

const TROUBLES: ReadonlyMap<string, StorageTrouble> = new Map([
  ['ENOSPC', 'full'],
  ['EDQUOT', 'full'],
  ['EFBIG', 'full'], // for this one blob: ulimit -f, or a file system with small files
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
  ['ESTALE', 'missing'], // NFS: the directory is another one now
])

const MOST_CAUSES = 8

/** Of a failed write or read, also where it is an error's `cause`; undefined: something else is the matter. */
export function storageTrouble(error: unknown): StorageTrouble | undefined {
  let at = error
  for (let depth = 0; depth < MOST_CAUSES && at instanceof Error; depth++) {
    const trouble = TROUBLES.get(errnoOf(at) ?? '')
    if (trouble !== undefined) return trouble
    at = at.cause
  }
  return undefined
}

// In a container the number of its user is all that is known of him, and what chown wants.
const user = process.geteuid ? `user ${process.geteuid()}` : 'this user'
const FORBIDDEN = `${user} may not write there: change its owner or mode, or set storage.directory`

const CURES: Readonly<Record<string, string>> = {
  EACCES: FORBIDDEN,
  EPERM: FORBIDDEN,
  EROFS: 'the file system is read-only: mount it writable, or set storage.directory',
  ENOTDIR: 'a part of the path is a file: remove it, or set storage.directory',
  EEXIST: 'a part of the path is a file: remove it, or set storage.directory',
  ENOENT: 'it does not exist and could not be made: create it, or set storage.directory',
  ENOSPC: 'the file system is full: make room, or set storage.directory to a larger one',
  EDQUOT: 'the quota is used up: raise it, or set storage.directory',
  EXDEV: 'its parts lie on different file systems: mount one file system on the whole directory',
  EMFILE: 'too many open files: raise the limit of open files (ulimit -n)',
  EIO: 'the device reports an I/O error: check the disk and the kernel log',
}

/** A system error as a sentence that names the directory and the cure; anything else as it is. */
export function explainStorageError(error: unknown, directory: string): Error {
  const code = errnoOf(error)
  if (code === undefined) return asError(error)
  const cure = CURES[code] ?? asError(error).message
  return new Error(`cannot use the storage directory ${directory} (${code}): ${cure}`, {
    cause: error,
  })
}
