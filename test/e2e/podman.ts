// podman as a client, with storage of its own and Chandlery as the mirror in registries.conf.
import { mkdir, writeFile } from 'node:fs/promises'
import { run } from './processes.ts'

export class Podman {
  readonly #directory: string

  private constructor(directory: string) {
    this.#directory = directory
  }

  /** A podman whose registries are all reached through the mirror, and never directly. */
  static async create(
    directory: string,
    mirror: string,
    registries: readonly string[],
  ): Promise<Podman> {
    await mkdir(`${directory}/tmp`, { recursive: true })
    // The location itself is a closed port: a pull that passed the mirror by would fail.
    const tables = registries.map(
      (name) => `[[registry]]
prefix = "${name}"
location = "127.0.0.1:9/${name}"
insecure = true
[[registry.mirror]]
location = "${mirror}/${name}"
insecure = true
`,
    )
    await writeFile(`${directory}/registries.conf`, tables.join('\n'))
    await writeFile(`${directory}/policy.json`, '{"default":[{"type":"insecureAcceptAnything"}]}')
    return new Podman(directory)
  }

  /** Pulls, and resolves with the digests podman knows the image by. */
  async pull(image: string): Promise<string[]> {
    const policy = `--signature-policy=${this.#directory}/policy.json`
    await this.#podman(['pull', '--quiet', '--arch=amd64', policy, image])
    const format = '{{.Digest}} {{range .RepoDigests}}{{.}} {{end}}'
    const digests = await this.#podman(['image', 'inspect', '--format', format, image])
    return digests
      .trim()
      .split(/\s+/)
      .map((text) => text.replace(/^.*@/, ''))
  }

  async remove(image: string): Promise<void> {
    await this.#podman(['rmi', '--force', image])
  }

  async #podman(args: readonly string[]): Promise<string> {
    const storage = ['--root', `${this.#directory}/root`, '--runroot', `${this.#directory}/run`]
    const flags = [
      ...storage,
      '--storage-driver=vfs',
      '--cgroup-manager=cgroupfs',
      '--events-backend=none',
    ]
    const env = {
      CONTAINERS_REGISTRIES_CONF: `${this.#directory}/registries.conf`,
      TMPDIR: `${this.#directory}/tmp`,
    }
    return await run('podman', [...flags, ...args], { env, timeoutMs: 90_000 })
  }
}
