// One container of the image, as locked down as in a cluster: read-only, unprivileged, with a
// memory limit.
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Containers } from './containers.ts'
import { answers, freePort, tail, type Finished } from './processes.ts'

/**
 * Nothing of the container can be written but its volume, and it gets no right that root would
 * have.
 */
const SHUT = [
  '--read-only --read-only-tmpfs=false --cap-drop=all --security-opt=no-new-privileges',
  '--network=host --ulimit=nofile=4096:4096 --ulimit=nproc=4096:4096',
].flatMap((flags) => flags.split(' '))
const START_MS = 20_000

export interface ContainerOptions {
  readonly name: string
  readonly image: string
  /** The configuration file, JSON or YAML. */
  readonly configFile: string
  /** "256m" */
  readonly memory: string
  /** "uid:gid" other than the image's. */
  readonly user?: string
}

/** A command of the image, run to its end in a container of its own. */
export async function runInImage(
  containers: Containers,
  image: string,
  args: readonly string[],
  flags: readonly string[] = [],
): Promise<Finished> {
  return await containers.tryPodman(['run', '--rm', ...SHUT, ...flags, image, ...args])
}

export class Container implements AsyncDisposable {
  readonly host: string
  readonly url: string
  readonly #containers: Containers
  readonly #name: string
  readonly #adminUrl: string
  readonly #remove: string[]

  private constructor(containers: Containers, name: string, ports: readonly [number, number]) {
    this.#containers = containers
    this.#name = name
    this.host = `127.0.0.1:${ports[0]}`
    this.url = `http://${this.host}`
    this.#adminUrl = `http://127.0.0.1:${ports[1]}`
    const rm = ['rm', '--force', '--time=0', '--ignore', '--volumes', name]
    this.#remove = containers.podmanArguments(rm)
    process.once('exit', this.#removeNow)
  }

  /** With a new empty volume as its cache; not started yet. */
  static async create(containers: Containers, options: ContainerOptions): Promise<Container> {
    const { image, configFile, memory, user } = options
    const name = `${options.name}-${process.pid}`
    const ports = [await freePort(), await freePort()] as const
    const container = new Container(containers, name, ports)
    const environment = {
      CHANDLERY_CONFIG: '/etc/chandlery.yaml',
      CHANDLERY_LISTEN: `127.0.0.1:${ports[0]}`,
      CHANDLERY_ADMIN_LISTEN: `127.0.0.1:${ports[1]}`,
    }
    const flags = [
      ...SHUT,
      `--name=${name}`,
      `--memory=${memory}`,
      `--memory-swap=${memory}`,
      `--volume=${configFile}:/etc/chandlery.yaml:ro`,
      ...Object.entries(environment).map(([key, value]) => `--env=${key}=${value}`),
      ...(user === undefined ? [] : [`--user=${user}`]),
    ]
    await containers.podman(['create', ...flags, image])
    return container
  }

  /** Starts it and waits until it is ready; resolves with how long that took in milliseconds. */
  async start(): Promise<number> {
    const startedAt = performance.now()
    await this.#containers.podman(['start', this.#name])
    while (!(await answers(`${this.#adminUrl}/readyz`, 200).catch(() => false))) {
      const elapsed = performance.now() - startedAt
      if (elapsed > START_MS) throw new Error(`not ready in time:\n${tail(await this.log())}`)
      await sleep(5)
    }
    return performance.now() - startedAt
  }

  /** Everything it printed. */
  async log(): Promise<string> {
    const { stdout, stderr } = await this.#containers.tryPodman(['logs', this.#name])
    return stdout + stderr
  }

  /** What podman knows of it, by a Go template. */
  async inspect(format: string): Promise<string> {
    return await this.#containers.podman(['inspect', '--format', format, this.#name])
  }

  /** The image's HEALTHCHECK, once. */
  async healthcheck(): Promise<Finished> {
    return await this.#containers.tryPodman(['healthcheck', 'run', this.#name])
  }

  /** The most memory the process itself has had so far, in MiB. */
  async peakMemory(): Promise<number> {
    const pid = await this.inspect('{{.State.Pid}}')
    const [, kibibytes] =
      /^VmHWM:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? []
    return Number(kibibytes) / 1024
  }

  /** SIGTERM; resolves with the exit code. */
  async stop(): Promise<number> {
    await this.#containers.podman(['stop', '--time=20', this.#name])
    return Number(await this.inspect('{{.State.ExitCode}}'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('exit', this.#removeNow)
    await this.#containers.tryPodman(['rm', '--force', '--time=0', '--volumes', this.#name])
  }

  // podman leaves what it has started running, whatever becomes of us.
  readonly #removeNow = () => void spawnSync('podman', this.#remove)
}
