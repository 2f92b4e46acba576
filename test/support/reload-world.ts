// A Chandlery whose configuration is changed while it runs, between two registries it may lead to.
import { rename, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { type RunningChandlery, startChandlery, type StartOptions } from './chandlery.ts'
import { startRegistry, type TestRegistry } from './registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './temporary-directory.ts'

/** A configuration, or a part of one, as a file may hold it. */
export type Written = Record<string, unknown>

/** The one registry that is served. */
export const REGISTRY = 'registry.test'
export const NS = `?ns=${REGISTRY}`

/** What POST /-/reload answers. */
export interface ReloadAnswer {
  readonly status: number
  readonly result: string
  readonly changed: string[]
  readonly restart: string[]
  readonly problems: string[]
}

export class ReloadWorld implements AsyncDisposable {
  readonly directory: TemporaryDirectory
  readonly upstream: TestRegistry
  readonly other: TestRegistry
  #chandlery: RunningChandlery | undefined

  private constructor(directory: TemporaryDirectory, registries: [TestRegistry, TestRegistry]) {
    this.directory = directory
    ;[this.upstream, this.other] = registries
  }

  static async create(): Promise<ReloadWorld> {
    const registries = await Promise.all([startRegistry(), startRegistry()])
    return new ReloadWorld(await temporaryDirectory(), registries)
  }

  /** The one that was started last. */
  get chandlery(): RunningChandlery {
    if (this.#chandlery === undefined) throw new Error('none was started')
    return this.#chandlery
  }

  /** The whole configuration that `config` stands for: a restart is needed for none of the rest. */
  whole(config: Written): Written {
    const storage = { directory: this.directory.join('cache') }
    return { listen: '127.0.0.1:0', admin: { listen: '127.0.0.1:0' }, storage, ...config }
  }

  async start(config: Written, options: StartOptions = {}): Promise<void> {
    this.#chandlery = await startChandlery(this.directory.path, this.whole(config), options)
  }

  /** Replaces the configuration file; a text is written as it stands. */
  async write(config: Written | string): Promise<void> {
    const text = typeof config === 'string' ? config : JSON.stringify(this.whole(config))
    const file = this.directory.join('chandlery.yaml')
    await writeFile(`${file}.new`, text)
    await rename(`${file}.new`, file)
  }

  async reload(headers: Record<string, string> = {}): Promise<ReloadAnswer> {
    const url = `${this.chandlery.adminUrl}/-/reload`
    const response = await fetch(url, { method: 'POST', headers })
    const answer = (await response.json()) as Omit<ReloadAnswer, 'status'>
    return { ...answer, status: response.status }
  }

  async admin(path: string): Promise<{ status: number; text: string }> {
    const response = await fetch(`${this.chandlery.adminUrl}${path}`)
    return { status: response.status, text: await response.text() }
  }

  /** A sample's value by its name and labels; NaN: there is none. */
  async metric(name: string): Promise<number> {
    const { text } = await this.admin('/metrics')
    const line = text.split('\n').find((each) => each.startsWith(`${name} `))
    return Number(line?.split(' ').at(-1))
  }

  url(path: string): string {
    return `${this.chandlery.url}/v2/${path}${NS}`
  }

  async digestOf(path: string): Promise<string | null> {
    const response = await fetch(this.url(path))
    await response.arrayBuffer()
    return response.headers.get('docker-content-digest')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chandlery?.stop()
    await this.upstream.close()
    await this.other.close()
    await this.directory.remove()
  }
}

/** REGISTRY behind this one endpoint. */
export function mirror(endpoint: string, rewrite: Record<string, string> = {}): Written {
  return { defaultEndpoints: false, mirrors: { [REGISTRY]: { endpoint: [endpoint], rewrite } } }
}

export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; !(await holds()); tries++) {
    if (tries > 300) throw new Error(`not in time: ${what}`)
    await sleep(20)
  }
}
