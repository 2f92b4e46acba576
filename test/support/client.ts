// A client of one server: asks for what a repository has, and for what the admin port tells.
import { type RawRequest, type RawResponse, rawRequest } from './raw-client.ts'

/** The registry that a test's server is asked for, and the repository there, unless it says otherwise. */
export const REGISTRY = 'registry.test'
export const REPOSITORY = 'team/app'

/** A whole answer. */
export interface Got {
  readonly status: number
  readonly headers: Headers
  readonly bytes: Buffer
  /** The bytes as UTF-8, each time anew. */
  readonly text: string
}

/** What a request is for. */
export interface Wanted {
  /** Default: REPOSITORY. */
  readonly repository?: string
  /** Default: REGISTRY. */
  readonly registry?: string
}

export interface GetOptions extends Wanted, Pick<RequestInit, 'method' | 'headers' | 'signal'> {}

export interface OpenOptions extends Wanted, RawRequest {}

export class TestClient {
  readonly #server: { readonly url: string; readonly adminUrl: string }

  /** Of a server whose addresses may change when it is started again. */
  constructor(server: { readonly url: string; readonly adminUrl: string }) {
    this.#server = server
  }

  /** Of "manifests/latest", "blobs/sha256:…", "tags/list". */
  url(path: string, { repository = REPOSITORY, registry = REGISTRY }: Wanted = {}): string {
    return `${this.#server.url}/v2/${repository}/${path}?ns=${registry}`
  }

  async get(path: string, options: GetOptions = {}): Promise<Got> {
    return await fetchWhole(this.url(path, options), options)
  }

  async blob(digest: string, options: GetOptions = {}): Promise<Got> {
    return await this.get(`blobs/${digest}`, options)
  }

  async manifest(reference: string, options: GetOptions = {}): Promise<Got> {
    return await this.get(`manifests/${reference}`, options)
  }

  /** A response whose body is read as the test asks for it, on a connection of its own. */
  async open(path: string, options: OpenOptions = {}): Promise<RawResponse> {
    return await rawRequest(this.url(path, options), options)
  }

  async openBlob(digest: string, options: OpenOptions = {}): Promise<RawResponse> {
    return await this.open(`blobs/${digest}`, options)
  }

  /** "/metrics", "/readyz?verbose" */
  async admin(path: string, init: RequestInit = {}): Promise<Got> {
    return await fetchWhole(`${this.#server.adminUrl}${path}`, init)
  }

  /** The value of the sample with this name and these labels, as they stand in /metrics; NaN: none. */
  async metric(sample: string): Promise<number> {
    const { text } = await this.admin('/metrics')
    const line = text.split('\n').find((each) => each.startsWith(`${sample} `))
    return Number(line?.split(' ').at(-1))
  }
}

async function fetchWhole(url: string, init: RequestInit): Promise<Got> {
  const response = await fetch(url, init)
  const bytes = Buffer.from(await response.arrayBuffer())
  const { status, headers } = response
  return {
    status,
    headers,
    bytes,
    get text() {
      return bytes.toString()
    },
  }
}
