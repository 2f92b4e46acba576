// A secret of the configuration: a literal, {env: NAME} or {file: PATH}. It prints as where it
// comes from, never as what it is, whatever logs, inspects or serialises it.
import { inspect } from 'node:util'
import { readWhole } from '../upstream/read-file.ts'
import { hiddenId, IDENTITY } from '../upstream/settings-id.ts'

/** Where a secret comes from; safe to print. */
export type SecretSource = { readonly env: string } | { readonly file: string } | '<redacted>'

const MAX_SECRET_BYTES = 64 * 1024

export class Secret {
  readonly source: SecretSource
  readonly #literal: string

  constructor(written: string | { env: string } | { file: string }) {
    this.source = typeof written === 'string' ? '<redacted>' : written
    this.#literal = typeof written === 'string' ? written : ''
  }

  /**
   * The secret as it is now: a file is read each time, so that a rotated one is seen; one line
   * break at the end of a file or a variable is dropped. The error names the variable or file, never
   * the content.
   */
  async read(env: Readonly<Record<string, string | undefined>> = process.env): Promise<string> {
    if (this.source === '<redacted>') return this.#literal
    if ('file' in this.source) return readSecretFile(this.source.file)
    const value = env[this.source.env]
    if (value) return withoutBreak(value)
    throw new Error(`the environment variable ${this.source.env} is not set`)
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

async function readSecretFile(path: string): Promise<string> {
  const bytes = await readWhole(path, MAX_SECRET_BYTES)
  return withoutBreak(bytes.toString('utf8'))
}

function withoutBreak(text: string): string {
  return text.replace(/\r?\n$/, '')
}
