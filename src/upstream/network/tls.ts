// The TLS side of a connection: whom we trust and who we are, per host, from files that may change.
import { createHash } from 'node:crypto'
import { createSecureContext, getCACertificates } from 'node:tls'
import type { SecureContext } from 'node:tls'
import { LRUCache } from 'lru-cache'

import { checkCertificates } from '../../files/pem.ts'
import { WatchedFile } from '../../files/watched-file.ts'

/** The `tls` of a `configs` entry, in registries.yaml's own words. */
export interface TlsOptions {
  /** PEM; trusted in addition to the usual authorities. */
  readonly ca_file?: string | undefined
  readonly cert_file?: string | undefined
  readonly key_file?: string | undefined
  readonly insecure_skip_verify?: boolean | undefined
}

export interface TlsState {
  readonly context: SecureContext
  readonly verify: boolean
  /** Of what the files hold: connections made with other content are not used again. */
  readonly id: string
}

/** A file named in `configs.<host>.tls` cannot be used. */
export class TlsFileError extends Error {
  override readonly name = 'TlsFileError'
  /** The one that is wrong; undefined: how they go together. */
  readonly key: FileKey | undefined

  constructor(message: string, options: { cause?: unknown; key?: FileKey } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.key = options.key
  }
}

const FILES = ['ca_file', 'cert_file', 'key_file'] as const
type FileKey = (typeof FILES)[number]

/** What is wrong with a key, OpenSSL says. */
const PARSE: Readonly<Record<FileKey, (bytes: Buffer) => Buffer>> = {
  ca_file: checkCertificates,
  cert_file: checkCertificates,
  key_file: (bytes) => bytes,
}

export class TlsFiles {
  readonly #verify: boolean
  readonly #files: readonly (readonly [FileKey, WatchedFile<Buffer>])[]
  #used: readonly Buffer[] = []
  #state: TlsState | undefined

  constructor(options: TlsOptions = {}) {
    this.#verify = options.insecure_skip_verify !== true
    this.#files = FILES.flatMap((key) => {
      const path = options[key]
      return path === undefined ? [] : [[key, new WatchedFile(path, PARSE[key])] as const]
    })
  }

  /**
   * Throws TlsFileError when a file is missing or not what it should be; but what was good goes on
   * being used while its successor is not (a key may come a moment after its certificate).
   */
  async current(): Promise<TlsState> {
    try {
      const contents = await Promise.all(this.#files.map(([key, file]) => read(key, file)))
      const same = contents.every((bytes, i) => isEqual(bytes, this.#used[i]))
      if (same && this.#state !== undefined) return this.#state
      this.#used = contents
      this.#state = this.#stateOf(contents)
    } catch (error) {
      if (this.#state === undefined) throw error
    }
    return this.#state
  }

  /** The files changed: the next who asks reads them. */
  recheck(): void {
    for (const [, file] of this.#files) file.recheck()
  }

  #stateOf(contents: readonly Buffer[]): TlsState {
    const id = this.#idOf(contents)
    const context = contexts.get(id) ?? this.#createContext(contents)
    contexts.set(id, context)
    return { context, verify: this.#verify, id }
  }

  #idOf(contents: readonly Buffer[]): string {
    const verify = this.#verify
    if (contents.length === 0) return verify ? 'usual' : 'unverified'
    const hash = createHash('sha256').update(String(verify))
    for (const [i, bytes] of contents.entries()) {
      hash.update(`,${this.#files[i]?.[0]} ${bytes.length},`).update(bytes)
    }
    return hash.digest('base64url')
  }

  #createContext(contents: readonly Buffer[]): SecureContext {
    const content = (key: FileKey): Buffer | undefined =>
      contents[this.#files.findIndex(([name]) => name === key)]
    const ca = content('ca_file')
    const [cert, key] = [content('cert_file'), content('key_file')]
    try {
      return createSecureContext({
        ca: ca === undefined ? usualAuthorities() : [...usualAuthorities(), ca.toString('latin1')],
        ...(cert !== undefined && { cert }),
        ...(key !== undefined && { key }),
      })
    } catch (error) {
      const paths = this.#files.map(([name, file]) => `${name} ${file.path}`).join(', ')
      throw new TlsFileError(`${paths}: ${describe(error)}`, { cause: error })
    }
  }
}

async function read(key: FileKey, file: WatchedFile<Buffer>): Promise<Buffer> {
  const bytes = await file.current().catch((error: unknown) => {
    throw new TlsFileError(`${key} ${file.path}: ${describe(error)}`, { cause: error, key })
  })
  if (bytes === undefined) throw new TlsFileError(`${key} ${file.path}: no such file`, { key })
  return bytes
}

function isEqual(one: Buffer, other: Buffer | undefined): boolean {
  return one === other || (other !== undefined && one.equals(other))
}

/**
 * By the id of the files' content. To read a system's bundle takes OpenSSL some 20 ms in which nothing
 * else runs: hosts that have the same share one, and a reload finds what it is good for already.
 */
const contexts = new LRUCache<string, SecureContext>({ max: 64 })

let authorities: string[] | undefined

/** Node's bundle and the system's: a company's own authority usually is installed in the latter. */
function usualAuthorities(): string[] {
  authorities ??= [...new Set([...getCACertificates('default'), ...getCACertificates('system')])]
  return authorities
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
