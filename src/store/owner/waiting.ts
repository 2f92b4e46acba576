// A server that waits for a directory leaves an empty file, its note, next to the owner's claim.
// This only speeds up a handover: an owner that is stopping can release the directory early, while
// it still sends responses for which it does not have to write.

import { randomUUID } from 'node:crypto'
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const NAME = /^[0-9a-f-]{36}\.waiting$/

/** The note of a waiting server. Its methods never reject. */
export class WaitingNote {
  readonly #path: string

  constructor(directory: string) {
    this.#path = join(directory, `${randomUUID()}.waiting`)
  }

  /**
   * Writes the note. Call it repeatedly: the owner removes notes to see which servers are still
   * waiting.
   */
  async put(): Promise<void> {
    await writeFile(this.#path, '').catch(() => {})
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true }).catch(() => {})
  }
}

/** The owner's view of the notes. */
export class Waiting {
  readonly #directory: string
  #hasCleared = false

  constructor(directory: string) {
    this.#directory = directory
  }

  /**
   * Reports whether a server is waiting. The first call removes all notes and returns false: only
   * servers that are alive write theirs again.
   */
  async isAnybody(): Promise<boolean> {
    const notes = (await readdir(this.#directory)).filter((name) => NAME.test(name))
    if (this.#hasCleared) return notes.length > 0
    this.#hasCleared = true
    for (const name of notes) await rm(join(this.#directory, name), { force: true })
    return false
  }
}
