// Creates certificates with the openssl command: a CA, and certificates that it signs.
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { temporaryDirectory, type TemporaryDirectory } from './temporary-directory.ts'

const run = promisify(execFile)

export interface KeyPair {
  /** PEM. */
  readonly cert: string
  readonly key: string
  /** The same in files, which exist until the authority is disposed of. */
  readonly certFile: string
  readonly keyFile: string
}

/** A certificate authority for one test. */
export class TestAuthority implements AsyncDisposable {
  readonly ca: KeyPair
  readonly #directory: TemporaryDirectory
  #made = 0

  constructor(ca: KeyPair, directory: TemporaryDirectory) {
    this.ca = ca
    this.#directory = directory
  }

  /** Returns a server certificate for these names and addresses ("localhost", "127.0.0.1"). */
  server(...names: string[]): Promise<KeyPair> {
    const alternatives = names.map((name) =>
      /^[\d.]+$|:/.test(name) ? `IP:${name}` : `DNS:${name}`,
    )
    return this.#sign(names[0] ?? 'localhost', [
      `subjectAltName=${alternatives.join(',')}`,
      'extendedKeyUsage=serverAuth',
    ])
  }

  /** Returns a client certificate. */
  client(name: string): Promise<KeyPair> {
    return this.#sign(name, ['extendedKeyUsage=clientAuth'])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#directory.remove()
  }

  async #sign(name: string, extensions: readonly string[]): Promise<KeyPair> {
    const base = this.#directory.join(`cert-${this.#made++}`)
    const signer = ['-CA', this.ca.certFile, '-CAkey', this.ca.keyFile]
    return await request(base, name, [...signer, ...extensions.flatMap((e) => ['-addext', e])])
  }
}

/** Creates a CA: `await using authority = await createAuthority()`. */
export async function createAuthority(name = 'Chandlery test CA'): Promise<TestAuthority> {
  const directory = await temporaryDirectory('chandlery-certificates')
  const usage = [
    '-addext',
    'basicConstraints=critical,CA:TRUE',
    '-addext',
    'keyUsage=keyCertSign,cRLSign',
  ]
  return new TestAuthority(await request(directory.join('ca'), name, usage), directory)
}

/** Returns a self-signed RSA certificate of the kind that token servers sign with. */
export async function createSigningKey(directory: string, name = 'token'): Promise<KeyPair> {
  return await request(`${directory}/${name}`, name, [], ['rsa:2048'])
}

async function request(
  base: string,
  name: string,
  extra: readonly string[],
  algorithm: readonly string[] = ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'],
): Promise<KeyPair> {
  const [certFile, keyFile, config] = [`${base}.crt`, `${base}.key`, `${base}.cnf`]
  // The machine's own configuration would add extensions (CA:TRUE on every certificate).
  await writeFile(config, '[req]\ndistinguished_name=dn\n[dn]\n')
  const subject = ['-subj', `/CN=${name}`, '-days', '2', '-config', config]
  const files = ['-keyout', keyFile, '-out', certFile]
  await run('openssl', [
    'req',
    '-x509',
    '-newkey',
    ...algorithm,
    '-nodes',
    ...subject,
    ...extra,
    ...files,
  ])
  const [cert, key] = await Promise.all([readFile(certFile, 'utf8'), readFile(keyFile, 'utf8')])
  return { cert, key, certFile, keyFile }
}
