// The server's certificate and private key, from two files. When they change, servers that use them get
// the new pair for new connections; existing connections keep the old one.
import { readFileSync } from 'node:fs'
import { createSecureContext, type Server as TlsServer } from 'node:tls'
import { checkCertificates } from '../files/pem.ts'
import { readWhole } from '../files/read-file.ts'

export interface KeyPairFiles {
  readonly certFile: string
  readonly keyFile: string
}

/** A certificate and its private key, checked to belong together. */
export interface Pair {
  readonly cert: Buffer
  readonly key: Buffer
}

export class TlsKeyPair {
  readonly #servers = new Set<TlsServer>()
  #pair: Pair

  /** Throws if the files cannot be read or do not belong together, so that the server does not start. */
  constructor(files: KeyPairFiles) {
    try {
      this.#pair = checked({
        cert: readFileSync(files.certFile),
        key: readFileSync(files.keyFile),
      })
    } catch (error) {
      throw explained(files, error)
    }
  }

  get current(): Pair {
    return this.#pair
  }

  /** Gives the server each new pair, until the server is closed. */
  serve(server: TlsServer): void {
    this.#servers.add(server)
    server.once('close', () => this.#servers.delete(server))
  }

  /** Reads the pair from the files. Returns undefined if it is the one in use; throws if it is unusable. */
  async read({ certFile, keyFile }: KeyPairFiles): Promise<Pair | undefined> {
    try {
      const pair = { cert: await readWhole(certFile), key: await readWhole(keyFile) }
      const isSame = pair.cert.equals(this.#pair.cert) && pair.key.equals(this.#pair.key)
      return isSame ? undefined : checked(pair)
    } catch (error) {
      throw explained({ certFile, keyFile }, error)
    }
  }

  /** Uses the pair for all new connections. */
  use(pair: Pair): void {
    this.#pair = pair
    for (const server of this.#servers) server.setSecureContext(pair)
  }
}

function checked(pair: Pair): Pair {
  checkCertificates(pair.cert)
  createSecureContext(pair)
  return pair
}

function explained(files: KeyPairFiles, error: unknown): Error {
  const why = error instanceof Error ? error.message : String(error)
  return new Error(
    `the TLS certificate ${files.certFile} with the key ${files.keyFile} cannot be used: ${why}`,
    { cause: error },
  )
}
