// Tells cheaply whether a file has changed: by what stat says of it, without reading it.
import type { Stats } from 'node:fs'

/** Returns a string that changes whenever the file is written to, renamed or put in the place of another. */
export function signatureOf({ dev, ino, size, mtimeMs, ctimeMs }: Stats): string {
  return [dev, ino, size, mtimeMs, ctimeMs].join(':')
}
