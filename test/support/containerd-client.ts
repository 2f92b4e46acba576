// A client that pulls as containerd does: the same order of requests, the same changes to the next
// host, the same retries and the same fatal errors. Taken from containerd:
// core/remotes/docker/resolver.go (Resolve; doWithRetries: repeats a 408 or 429 at once, five
// times), fetcher.go (asks for each document from the first host on, and tries the next one after
// any failure) and httpreadseeker.go (resumes only a body that ended too early, with Range, from
// the first host on; a reset, or no host that answers then, fails the pull; maxRetry = 3 without a
// byte). As in Go's net/http, a request on a kept-alive connection that breaks before the response
// is sent again (transport.go, shouldRetryRequest). A failed pull is not repeated; the kubelet
// would.
import { Agent, type IncomingMessage, request as httpRequest } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Digest, digestOf, parseDigest } from '../../src/oci/digest.ts'

const MAX_RETRY = 3
const MOST_RESPONSES = 5
const PARALLEL_BLOBS = 3
const RESOLVE_ACCEPT = [
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  '*/*',
].join(', ')

export interface ContainerdOptions {
  /**
   * "http://127.0.0.1:5000", in order: the mirrors, then the registry itself if it may be asked.
   */
  readonly hosts: readonly string[]
  /** The registry that the hosts mirror; sent as `ns`. */
  readonly registry: string
  /** How fast it reads a body. Default: as fast as it arrives. */
  readonly bytesPerSecond?: number
}

export interface Pulled {
  readonly digest: Digest
  readonly bytes: number
  /** Bodies that ended too early and were resumed. */
  readonly resumed: number
  /** Requests that were answered by a later host. */
  readonly elsewhere: number
}

interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
  readonly platform?: { readonly architecture: string }
}

/** A body ended before its announced length: io.ErrUnexpectedEOF. */
class UnexpectedEnd extends Error {
  override readonly name = 'UnexpectedEnd'
}

export class ContainerdClient implements Disposable {
  readonly #options: ContainerdOptions
  readonly #agent = new Agent({ keepAlive: true })
  /** Sets how fast it reads bodies from now on. Undefined: as fast as they arrive. */
  bytesPerSecond: number | undefined
  #resumed = 0
  #elsewhere = 0

  constructor(options: ContainerdOptions) {
    this.#options = options
    this.bytesPerSecond = options.bytesPerSecond
  }

  /** Rejects if containerd's pull would fail. */
  async pull(repository: string, tag: string): Promise<Pulled> {
    this.#resumed = 0
    this.#elsewhere = 0
    const top = await this.#resolve(repository, tag)
    const bytes = await this.#fetchTree(repository, top)
    return { digest: top.digest, bytes, resumed: this.#resumed, elsewhere: this.#elsewhere }
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }

  async #resolve(repository: string, tag: string): Promise<Descriptor> {
    const path = `${repository}/manifests/${tag}`
    const res = await this.#firstAnswer('HEAD', path, { accept: RESOLVE_ACCEPT })
    res.resume()
    const digest = parseDigest(String(res.headers['docker-content-digest']))
    if (digest === undefined) throw new Error(`no digest for ${path}`)
    const size = Number(res.headers['content-length'])
    return { mediaType: String(res.headers['content-type']), digest, size }
  }

  async #fetchTree(repository: string, descriptor: Descriptor): Promise<number> {
    const document = await this.#fetch(repository, 'manifests', descriptor)
    const { manifests, config, layers } = JSON.parse(document.toString('utf8'))
    let bytes = document.length
    for (const child of (manifests ?? []) as Descriptor[]) {
      if (child.platform?.architecture !== 'amd64') continue
      bytes += await this.#fetchTree(repository, child)
    }
    const blobs = [...(config ? [config] : []), ...(layers ?? [])] as Descriptor[]
    const work = blobs.values()
    const worker = async () => {
      for (const blob of work) bytes += (await this.#fetch(repository, 'blobs', blob)).length
    }
    await Promise.all(Array.from({ length: PARALLEL_BLOBS }, worker))
    return bytes
  }

  /** dockerFetcher.Fetch and httpReadSeeker: reads all of the content and verifies it. */
  async #fetch(repository: string, kind: string, descriptor: Descriptor): Promise<Buffer> {
    const { digest, size, mediaType } = descriptor
    const path = `${repository}/${kind}/${digest}`
    const parts: Buffer[] = []
    let [at, fruitless] = [0, 0]
    const open = (offset: number) =>
      this.#firstAnswer('GET', path, {
        accept: `${mediaType}, */*`,
        ...(offset > 0 && { range: `bytes=${offset}-` }),
      })
    let res = await open(0)
    while (at < size) {
      const before = at
      try {
        for await (const chunk of bodyOf(res)) {
          parts.push(chunk)
          at += chunk.length
          await this.#takeTime(chunk.length)
        }
      } catch (error) {
        fruitless = at > before ? 0 : fruitless + 1
        if (!(error instanceof UnexpectedEnd) || fruitless > MAX_RETRY) throw error
        this.#resumed += 1
      }
      if (at >= size) break
      res = await open(at)
      if (at > 0 && res.statusCode !== 206)
        throw new Error(`${res.statusCode} for a range of ${path}`)
    }
    const bytes = Buffer.concat(parts)
    if (bytes.length !== size) throw new Error(`${path} has ${bytes.length} bytes, not ${size}`)
    if (digestOf(bytes) !== digest) throw new Error(`${path} has other bytes than it should`)
    return bytes
  }

  /** Returns the first 2xx response of a host. Throws the first host's error if there is none. */
  async #firstAnswer(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
  ): Promise<IncomingMessage> {
    let failure: unknown
    for (const [index, host] of this.#options.hosts.entries()) {
      const url = `${host}/v2/${path}?ns=${encodeURIComponent(this.#options.registry)}`
      try {
        const res = await this.#withRetries(method, url, headers)
        if (index > 0) this.#elsewhere += 1
        if ((res.statusCode ?? 0) < 300) return res
        throw new Error(`${res.statusCode} for ${method} ${url}: ${await text(res)}`)
      } catch (error) {
        failure ??= error
      }
    }
    throw failure
  }

  async #withRetries(
    method: string,
    url: string,
    headers: Readonly<Record<string, string>>,
  ): Promise<IncomingMessage> {
    for (let responses = 1; ; responses++) {
      const res = await this.#send(method, url, headers)
      const again = res.statusCode === 408 || res.statusCode === 429
      if (!again || responses > MOST_RESPONSES) return res
      res.resume()
    }
  }

  async #send(
    method: string,
    url: string,
    headers: Readonly<Record<string, string>>,
  ): Promise<IncomingMessage> {
    for (;;) {
      const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
      const all = { ...headers, 'user-agent': 'containerd/2.1.0' }
      const req = httpRequest(url, { method, agent: this.#agent, headers: all }, resolve)
      req.on('error', reject)
      req.end()
      try {
        return await promise
      } catch (error) {
        if (!req.reusedSocket)
          throw new Error(`${method} ${url}: ${String(error)}`, { cause: error })
      }
    }
  }

  async #takeTime(bytes: number): Promise<void> {
    const { bytesPerSecond } = this
    if (bytesPerSecond !== undefined) await sleep((bytes / bytesPerSecond) * 1000)
  }
}

/** Throws UnexpectedEnd if the connection was closed too early, another error if it was reset. */
async function* bodyOf(res: IncomingMessage): AsyncGenerator<Buffer> {
  let reset: Error | undefined
  // Node reports both as an aborted body; the socket tells them apart.
  const onError = (error: Error) => (reset = error)
  const { socket } = res
  socket.once('error', onError)
  try {
    for await (const chunk of res) yield chunk as Buffer
  } catch (cause) {
    if (reset) throw new Error(`the body was reset: ${reset.message}`, { cause })
    throw new UnexpectedEnd('the body ended too early', { cause })
  } finally {
    socket.removeListener('error', onError)
  }
}
