// The server's certificate with its key, from two files; whoever serves with it is given a new pair
// when there is one, and the connections there are go on with the old one.
import { readFileSync } from 'node:fs'
import { createSecureContext, type Server as TlsServer } from 'node:tls'
import { checkCertificates } from '../files/pem.ts'
import { readWhole } from '../files/read-file.ts'

export interface KeyPairFiles {
  readonly certFile: string
  readonly keyFile: string
}

/** A certificate and its key, known to belong together. */
export interface Pair {
  readonly cert: Buffer
  readonly key: Buffer
}

export class TlsKeyPair {
  readonly #servers = new Set<TlsServer>()
  #pair: Pair

  /** Throws where the pair cannot be read or does not belong together: better no start than a broken one. */
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

  /** From now on the server is told of new pairs, until it is closed. */
  serve(server: TlsServer): void {
    this.#servers.add(server)
    server.once('close', () => this.#servers.delete(server))
  }

  /** The pair in these files; undefined: it is the one in use. Throws where it cannot be used. */
  async read({ certFile, keyFile }: KeyPairFiles): Promise<Pair | undefined> {
    try {
      const pair = { cert: await readWhole(certFile), key: await readWhole(keyFile) }
      const isSame = pair.cert.equals(this.#pair.cert) && pair.key.equals(this.#pair.key)
      return isSame ? undefined : checked(pair)
    } catch (error) {
      throw explained({ certFile, keyFile }, error)
    }
  }

  /** Connections from now on get this pair. */
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
