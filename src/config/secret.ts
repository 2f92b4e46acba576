// A secret of the configuration: a literal, {env: NAME} or {file: PATH}. Whatever logs, inspects or
// serialises it gets its source, never its value.
import { inspect } from 'node:util'
import { hiddenId, IDENTITY } from '../upstream/network/settings-id.ts'
import { WatchedFile } from '../files/watched-file.ts'

/** The source of a secret. It is safe to print. */
export type SecretSource = { readonly env: string } | { readonly file: string } | '<redacted>'

const MAX_SECRET_BYTES = 64 * 1024

export interface ReadOptions {
  /** The variables to read. Default: those of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** How long the last check of a file for changes stays valid. Default: 1 s. */
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
   * Returns the current value: a file is checked once a second and read again after a change. One line
   * break at the end of a file or a variable is dropped. Throws if there is no such variable or file;
   * the error names it and never holds the value.
   */
  async read({ env = process.env, maxAgeMs }: ReadOptions = {}): Promise<string> {
    if (this.source === '<redacted>') return this.#literal
    if ('file' in this.source) return (await this.#file?.current(maxAgeMs)) ?? ''
    const value = env[this.source.env]
    if (value) return withoutLineBreak(value)
    throw new Error(`the environment variable ${this.source.env} is not set`)
  }

  /** Makes the next read compare the content of the file, even if its size and times are unchanged. */
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

/** Watches the file of a secret. A missing file is an error: the caller decides what to keep. */
function watch(path: string): WatchedFile<string> {
  return new WatchedFile(path, readText, { maxBytes: MAX_SECRET_BYTES, keepsFormer: false })
}

function readText(bytes: Buffer): string {
  return withoutLineBreak(bytes.toString('utf8'))
}

function withoutLineBreak(text: string): string {
  return text.replace(/\r?\n$/, '')
}
