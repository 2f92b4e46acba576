// Debian's docker-registry (distribution 2.8): an open front to fill a directory, and a front with
// token authentication to pull from it.
import { mkdir, writeFile } from 'node:fs/promises'
import type { TestTokenServer } from '../support/token-server.ts'
import { answers, Daemon, freePort } from './processes.ts'

export interface TokenAuth {
  readonly tokens: TestTokenServer
  readonly issuer: string
  /** The certificate that signs tokens, PEM. */
  readonly certFile: string
}

export class DockerRegistry implements AsyncDisposable {
  readonly url: string
  readonly host: string
  readonly #directory: string
  readonly #auth: TokenAuth | undefined
  #daemon: Daemon | undefined

  constructor(directory: string, port: number, auth?: TokenAuth) {
    this.#directory = directory
    this.#auth = auth
    this.host = `127.0.0.1:${port}`
    this.url = `http://${this.host}`
  }

  async start(): Promise<void> {
    const front = this.#auth ? 'token' : 'open'
    await mkdir(this.#directory, { recursive: true })
    const config = `${this.#directory}/${front}.yml`
    await writeFile(config, JSON.stringify(this.#config()))
    const log = `${this.#directory}/${front}.log`
    this.#daemon = new Daemon('docker-registry', 'docker-registry', ['serve', config], log)
    const status = this.#auth ? 401 : 200
    await this.#daemon.until(() => answers(`${this.url}/v2/`, status))
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop()
    this.#daemon = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  // JSON is YAML.
  #config(): unknown {
    return {
      version: 0.1,
      log: { level: 'warn' },
      storage: { filesystem: { rootdirectory: `${this.#directory}/data` } },
      http: { addr: this.host, secret: 'e2e' },
      ...(this.#auth ? { auth: { token: tokenSection(this.#auth) } } : {}),
    }
  }
}

function tokenSection({ tokens, issuer, certFile }: TokenAuth): Record<string, string> {
  return { realm: tokens.realm, service: tokens.service, issuer, rootcertbundle: certFile }
}

/** Fills a directory through an open front, then serves it behind the token server. */
export async function filledRegistry(
  directory: string,
  auth: TokenAuth,
  fill: (url: string) => Promise<void>,
): Promise<DockerRegistry> {
  {
    await using front = new DockerRegistry(directory, await freePort())
    await front.start()
    await fill(front.url)
  }
  const registry = new DockerRegistry(directory, await freePort(), auth)
  await registry.start()
  return registry
}
