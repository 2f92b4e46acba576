// containerd 2 in a chroot, with mounts of its own and parallel layer fetch: what a node of a newer
// distribution does.
import { mkdir, writeFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { Daemon, run, tryRun } from './processes.ts'

const NAMESPACE = 'e2e'
const MIB = 1024 * 1024
const FETCH_BUFFER = 8 * MIB
const CONNECTIONS = 6
// In a namespace of the daemon's own: the mounts end with it, whatever way it ends.
const ENTER = `mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount --rbind /sys "$0/sys"
mount --rbind /dev "$0/dev"
exec chroot "$0" "$@"`

export class ChrootContainerd implements AsyncDisposable {
  readonly #root: string
  /** As seen from inside. */
  readonly #directory: string
  readonly #daemon: Daemon

  private constructor(root: string, directory: string, daemon: Daemon) {
    this.#root = root
    this.#directory = directory
    this.#daemon = daemon
  }

  /** An empty one that reaches `registry` through the mirror, and never directly; `directory` is in the chroot. */
  static async start(
    root: string,
    directory: string,
    mirror: string,
    registry: string,
  ): Promise<ChrootContainerd> {
    const inside = `/${relative(root, directory)}`
    const hosts = `${directory}/certs.d/${registry}`
    await mkdir(hosts, { recursive: true })
    await writeFile(
      `${hosts}/hosts.toml`,
      `server = "${mirror}"\n[host."${mirror}"]\n  capabilities = ["pull", "resolve"]\n`,
    )
    await writeFile(`${directory}/config.toml`, configFile(inside))
    const command = ['containerd', '-c', `${inside}/config.toml`]
    const args = ['--mount', 'sh', '-ec', ENTER, root, ...command]
    const daemon = new Daemon('containerd', 'unshare', args, `${directory}/containerd.log`)
    const containerd = new ChrootContainerd(root, inside, daemon)
    await daemon.until(async () => (await containerd.#tryVersion()).code === 0)
    return containerd
  }

  /** The server's version in words. */
  async version(): Promise<string> {
    const { stdout } = await this.#tryVersion()
    return `containerd ${/Server:\s*Version:\s*(\S+)/.exec(stdout)?.[1] ?? 'of unknown version'}`
  }

  /** Pulls and unpacks, and resolves with the digest of the image. */
  async pull(image: string): Promise<string> {
    const hosts = ['--hosts-dir', `${this.#directory}/certs.d`]
    const platform = ['--platform', 'linux/amd64', '--snapshotter', 'native']
    await this.#ctr(['images', 'pull', ...hosts, ...platform, image])
    const listed = await this.#ctr(['images', 'ls', `name==${image}`])
    return /sha256:[0-9a-f]{64}/.exec(listed)?.[0] ?? ''
  }

  /** The digests of all it holds. */
  async content(): Promise<Set<string>> {
    const listed = await this.#ctr(['content', 'ls', '--quiet'])
    return new Set(listed.trim().split('\n'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon.stop()
  }

  get #inChroot(): string[] {
    return [this.#root, 'ctr', '-a', `${this.#directory}/containerd.sock`, '-n', NAMESPACE]
  }

  async #ctr(args: readonly string[]): Promise<string> {
    return await run('chroot', [...this.#inChroot, ...args], { timeoutMs: 120_000 })
  }

  async #tryVersion() {
    return await tryRun('chroot', [...this.#inChroot, 'version'])
  }
}

// The transfer service unpacks only for a snapshotter it is told of; the native one needs no kernel's help.
function configFile(directory: string): string {
  return `version = 3
root = "${directory}/root"
state = "${directory}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.overlayfs",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "${directory}/containerd.sock"
[ttrpc]
  address = "${directory}/containerd.sock.ttrpc"
[plugins."io.containerd.transfer.v1.local"]
  max_concurrent_downloads = ${CONNECTIONS}
  concurrent_layer_fetch_buffer = ${FETCH_BUFFER}
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "native"
`
}
