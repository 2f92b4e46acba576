// A secret of the configuration: a literal, {env: NAME} or {file: PATH}. It prints as where it
// comes from, never as what it is, whatever logs, inspects or serialises it.
import { inspect } from 'node:util'
import { hiddenId, IDENTITY } from '../upstream/network/settings-id.ts'
import { WatchedFile } from '../files/watched-file.ts'

/** Where a secret comes from; safe to print. */
export type SecretSource = { readonly env: string } | { readonly file: string } | '<redacted>'

const MAX_SECRET_BYTES = 64 * 1024

export interface ReadOptions {
  /** Default: the process's. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** How long ago a file may have been looked at; default 1 s. */
  readonly maxAgeMs?: number | undefined
}

export class Secret {
  readonly source: SecretSource
  readonly #literal: string
  readonly #file: WatchedFile<string> | undefined

  constructor(written: string | { env: string } | { file: string }) {
    this.source = typeof written === 'string' ? '<redacted>' : written
    this.#literal = typeof written === 'string' ? written : ''
    this.#file = typeof written === 'object' && 'file' in written ? watch(written.file) : undefined
  }

  /**
   * Returns the secret as it is now: a file is looked at once a second and read again when it has
   * changed; one line break at the end of a file or a variable is dropped. Throws if there is no such
   * variable or file; the error names it, and never holds the content.
   */
  async read({ env = process.env, maxAgeMs }: ReadOptions = {}): Promise<string> {
    if (this.source === '<redacted>') return this.#literal
    if ('file' in this.source) return (await this.#file?.current(maxAgeMs)) ?? ''
    const value = env[this.source.env]
    if (value) return withoutBreak(value)
    throw new Error(`the environment variable ${this.source.env} is not set`)
  }

  /** The next read looks into the file, whatever its size and times say. */
  recheck(): void {
    this.#file?.recheck()
  }

  toJSON(): SecretSource {
    return this.source
  }

  [IDENTITY](): string {
    return `${this.toString()} ${hiddenId(this.#literal)}`
  }

  toString(): string {
    return this.source === '<redacted>' ? this.source : JSON.stringify(this.source)
  }

  [inspect.custom](): string {
    return `Secret(${this.toString()})`
  }
}

/** One that is gone is an error: what is kept of it is for those to decide who use it. */
function watch(path: string): WatchedFile<string> {
  return new WatchedFile(path, readText, { maxBytes: MAX_SECRET_BYTES, keepsFormer: false })
}

function readText(bytes: Buffer): string {
  return withoutBreak(bytes.toString('utf8'))
}

function withoutBreak(text: string): string {
  return text.replace(/\r?\n$/, '')
}
