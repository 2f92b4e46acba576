// Who waits for a directory says so by an empty file of its own beside the owner's claim. A help only: an
// owner that ends may give the directory back while it still serves what it need not write.

import { randomUUID } from 'node:crypto'
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const NAME = /^[0-9a-f-]{36}\.waiting$/

/** What one that waits leaves; never rejects. */
export class WaitingNote {
  readonly #path: string

  constructor(directory: string) {
    this.#path = join(directory, `${randomUUID()}.waiting`)
  }

  /** To be put again and again: the owner removes it to see who still waits. */
  async put(): Promise<void> {
    await writeFile(this.#path, '').catch(() => {})
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true }).catch(() => {})
  }
}

/** Whether anybody waits, for the owner. */
export class Waiting {
  readonly #directory: string
  #hasAsked = false

  constructor(directory: string) {
    this.#directory = directory
  }

  /** The first call only asks: notes of those that were killed do not come back. */
  async isAnybody(): Promise<boolean> {
    const notes = (await readdir(this.#directory)).filter((name) => NAME.test(name))
    if (this.#hasAsked) return notes.length > 0
    this.#hasAsked = true
    for (const name of notes) await rm(join(this.#directory, name), { force: true })
    return false
  }
}
