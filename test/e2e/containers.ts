// Images and containers without a daemon: buildah builds and podman runs them, as root, on storage of
// their own.
import { mkdir, statfs } from 'node:fs/promises'
import { run, tryRun, type Finished, type RunOptions } from './processes.ts'

/** What `statfs` calls overlayfs, which cannot be stacked. */
const OVERLAYFS = 0x794c7630

export class Containers {
  readonly directory: string
  readonly #flags: readonly string[]

  private constructor(directory: string, driver: string) {
    this.directory = directory
    const roots = ['--root', `${directory}/root`, '--runroot', `${directory}/run`]
    this.#flags = [...roots, '--storage-driver', driver]
  }

  /**
   * With nothing in it yet; whoever gives the directory removes it. Of at most 45 characters: podman
   * wants its sockets to have short names.
   */
  static async create(directory: string): Promise<Containers> {
    await mkdir(directory, { recursive: true })
    const { type } = await statfs(directory)
    return new Containers(directory, type === OVERLAYFS ? 'vfs' : 'overlay')
  }

  /** Runs buildah, which has to succeed; resolves with what it printed. */
  async buildah(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return (await run('buildah', [...this.#flags, ...args], options)).trim()
  }

  /** Runs podman, which has to succeed; resolves with what it printed. */
  async podman(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return (await run('podman', this.podmanArguments(args), options)).trim()
  }

  /** Runs podman, whatever its exit code. */
  async tryPodman(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return await tryRun('podman', this.podmanArguments(args), options)
  }

  /** A whole command line of podman. */
  podmanArguments(args: readonly string[]): string[] {
    const host = ['--runtime', 'runc', '--cgroup-manager', 'cgroupfs', '--events-backend', 'none']
    return [...this.#flags, '--tmpdir', `${this.directory}/tmp`, ...host, ...args]
  }
}
