// A Chandlery whose configuration is changed while it runs, between two registries it may lead to.
import { rename, writeFile } from 'node:fs/promises'
import { REGISTRY } from './client.ts'
import { type TestRegistry, startRegistry } from './registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './temporary-directory.ts'
import { World, type Written } from './world.ts'

export { REGISTRY } from './client.ts'
export { until } from './until.ts'
export type { Written } from './world.ts'

export const NS = `?ns=${REGISTRY}`

/** What POST /-/reload answers. */
export interface ReloadAnswer {
  readonly status: number
  readonly result: string
  readonly changed: string[]
  readonly restart: string[]
  readonly problems: string[]
}

/** Its server is started by the test, with the configuration that is then changed. */
export class ReloadWorld extends World {
  private constructor(directory: TemporaryDirectory, upstreams: readonly TestRegistry[]) {
    super(directory, upstreams, {})
  }

  static async create(): Promise<ReloadWorld> {
    const registries = await Promise.all([startRegistry(), startRegistry()])
    return new ReloadWorld(await temporaryDirectory(), registries)
  }

  /** The whole configuration that `config` stands for: a restart is needed for none of the rest. */
  whole(config: Written): Written {
    const storage = { directory: this.cache() }
    return { listen: '127.0.0.1:0', admin: { listen: '127.0.0.1:0' }, storage, ...config }
  }

  /** Replaces the configuration file; a text is written as it stands. */
  async write(config: Written | string): Promise<void> {
    const text = typeof config === 'string' ? config : JSON.stringify(this.whole(config))
    const { file } = this.server
    await writeFile(`${file}.new`, text)
    await rename(`${file}.new`, file)
  }

  async reload(headers: Record<string, string> = {}): Promise<ReloadAnswer> {
    const { status, text } = await this.client.admin('/-/reload', { method: 'POST', headers })
    const answer: Omit<ReloadAnswer, 'status'> = JSON.parse(text)
    return { ...answer, status }
  }

  url(path: string): string {
    return `${this.server.url}/v2/${path}${NS}`
  }
}

/** REGISTRY behind this one endpoint. */
export function mirror(endpoint: string, rewrite: Record<string, string> = {}): Written {
  return { defaultEndpoints: false, mirrors: { [REGISTRY]: { endpoint: [endpoint], rewrite } } }
}
