// The setup of most tests of the whole server: registries, a Chandlery in front of them with a
// directory of its own, and a client. All of it is disposed of at the end of the test: `await using
// world = await createWorld()`.
import { mirrorOf, type RunningChandlery, startChandlery, type StartOptions } from './chandlery.ts'
import { REGISTRY, TestClient } from './client.ts'
import { type RegistryOptions, startRegistry, type TestRegistry } from './registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './temporary-directory.ts'

/** A configuration or a part of one, as in a file. */
export type Written = Record<string, unknown>

export interface WorldOptions {
  /**
   * The options of each upstream registry. They are REGISTRY's endpoints, in this order. Default:
   * one.
   */
  readonly upstreams?: readonly RegistryOptions[]
  /** Additions to the configuration of REGISTRY and the upstreams, or its replacement. */
  readonly config?: Written | ((upstreams: readonly TestRegistry[]) => Written)
  /** Shorter delays for tests. */
  readonly scale?: StartOptions
  /** If false, the test starts the server itself. */
  readonly started?: boolean
}

export class World implements AsyncDisposable {
  readonly directory: TemporaryDirectory
  readonly upstreams: readonly TestRegistry[]
  readonly client: TestClient
  /** The configuration that `start` uses by default. */
  readonly config: Written
  readonly #scale: StartOptions
  #server: RunningChandlery | undefined

  constructor(
    directory: TemporaryDirectory,
    upstreams: readonly TestRegistry[],
    { config = {}, scale = {} }: WorldOptions,
  ) {
    const urls = upstreams.map(({ url }) => url)
    const more = typeof config === 'function' ? config(upstreams) : config
    this.directory = directory
    this.upstreams = upstreams
    this.config = { ...mirrorOf(REGISTRY, ...urls), ...more }
    this.#scale = scale
    const current = () => this.server
    this.client = new TestClient({
      get url() {
        return current().url
      },
      get adminUrl() {
        return current().adminUrl
      },
    })
  }

  /** The first upstream. */
  get upstream(): TestRegistry {
    return this.#at(0)
  }

  /** The second upstream. */
  get other(): TestRegistry {
    return this.#at(1)
  }

  /** The server that was started last. */
  get server(): RunningChandlery {
    if (this.#server === undefined) throw new Error('no server was started')
    return this.#server
  }

  /** Returns a path in the cache directory. */
  cache(...parts: string[]): string {
    return this.directory.join('cache', ...parts)
  }

  /** Starts a server. A running one is not stopped. */
  async start(config: Written = this.config, scale = this.#scale): Promise<RunningChandlery> {
    this.#server = await startChandlery(this.directory.path, config, scale)
    return this.#server
  }

  /** Stops the server and starts another on the same directory. */
  async restart(config?: Written): Promise<RunningChandlery> {
    await this.server.stop()
    return await this.start(config)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.stop()
    await Promise.all(this.upstreams.map(async (upstream) => await upstream.close()))
    await this.directory.remove()
  }

  #at(index: number): TestRegistry {
    const upstream = this.upstreams[index]
    if (upstream === undefined) throw new Error(`the world has ${this.upstreams.length} upstreams`)
    return upstream
  }
}

/** Creates a world. The server is running unless the options say otherwise. */
export async function createWorld(options: WorldOptions = {}): Promise<World> {
  const { upstreams = [{}], started = true } = options
  const registries = await Promise.all(upstreams.map(startRegistry))
  const world = new World(await temporaryDirectory(), registries, options)
  if (started) await world.start()
  return world
}
