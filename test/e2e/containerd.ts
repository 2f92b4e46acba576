// containerd 1.6 as a client: a daemon of our own, with Chandlery in hosts.toml, so that `ns` is sent.
import { mkdir, writeFile } from 'node:fs/promises'
import { Daemon, run, tryRun } from './processes.ts'

const NAMESPACE = 'e2e'
// CRI wants a network, the others devices, kernel modules or directories outside of ours.
const DISABLED = [
  'io.containerd.grpc.v1.cri',
  'io.containerd.internal.v1.opt',
  'io.containerd.snapshotter.v1.aufs',
  'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.zfs',
]

export interface Hosts {
  readonly mirror: string
  /** Asked where the mirror fails. */
  readonly server: string
}

export class Containerd implements AsyncDisposable {
  readonly #directory: string
  readonly #daemon: Daemon

  private constructor(directory: string, daemon: Daemon) {
    this.#directory = directory
    this.#daemon = daemon
  }

  /** An empty containerd whose registries are all reached through the mirror, and directly only at `server`. */
  static async start(
    directory: string,
    mirror: string | Hosts,
    registries: readonly string[],
  ): Promise<Containerd> {
    const hosts = typeof mirror === 'string' ? { mirror, server: mirror } : mirror
    for (const name of registries) await writeHosts(`${directory}/certs.d/${name}`, hosts)
    const config = `${directory}/config.toml`
    await writeFile(config, configFile(directory))
    const log = `${directory}/containerd.log`
    const containerd = new Containerd(
      directory,
      new Daemon('containerd', 'containerd', ['-c', config], log),
    )
    const version = () => tryRun('ctr', ['-a', containerd.#socket, 'version'])
    await containerd.#daemon.until(async () => (await version()).code === 0)
    return containerd
  }

  /** Pulls and unpacks, and resolves with the digest of the image. */
  async pull(image: string, allPlatforms: boolean): Promise<string> {
    const platform = allPlatforms ? '--all-platforms' : '--platform=linux/amd64'
    const hosts = ['--hosts-dir', `${this.#directory}/certs.d`]
    await this.#ctr(['images', 'pull', ...hosts, '--snapshotter=native', platform, image])
    const listed = await this.#ctr(['images', 'ls', `name==${image}`])
    return /sha256:[0-9a-f]{64}/.exec(listed)?.[0] ?? ''
  }

  /** Gets all content of it, without unpacking. */
  async fetch(image: string): Promise<void> {
    const hosts = ['--hosts-dir', `${this.#directory}/certs.d`]
    await this.#ctr(['content', 'fetch', ...hosts, '--all-platforms', image])
  }

  /** Removes the image and what no other has of it. */
  async remove(image: string): Promise<void> {
    await this.#ctr(['images', 'rm', '--sync', image])
  }

  /** The digests of all it holds. */
  async content(): Promise<Set<string>> {
    const listed = await this.#ctr(['content', 'ls', '--quiet'])
    return new Set(listed.trim().split('\n'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon.stop()
  }

  get #socket(): string {
    return `${this.#directory}/containerd.sock`
  }

  async #ctr(args: readonly string[]): Promise<string> {
    return await run('ctr', ['-a', this.#socket, '-n', NAMESPACE, ...args])
  }
}

// `server` too is the mirror: without it containerd would go to the registry itself after a failure.
async function writeHosts(directory: string, { mirror, server }: Hosts): Promise<void> {
  await mkdir(directory, { recursive: true })
  const hosts = `server = "${server}"\n[host."${mirror}"]\n  capabilities = ["pull", "resolve"]\n`
  await writeFile(`${directory}/hosts.toml`, hosts)
}

function configFile(directory: string): string {
  return `version = 2
root = "${directory}/root"
state = "${directory}/state"
disabled_plugins = [${DISABLED.map((name) => `"${name}"`).join(', ')}]
[grpc]
  address = "${directory}/containerd.sock"
[ttrpc]
  address = "${directory}/containerd.sock.ttrpc"
`
}
