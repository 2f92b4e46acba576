// Chandlery is restarted again and again, its pod ending wholly before the next begins, while a real
// containerd pulls all the time: with the registry as the second host of its hosts.toml, and with the
// mirror alone behind a front that waits while nothing is ready.
import { mkdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { mirrorOf } from '../support/chandlery.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ServiceFront } from '../support/service-front.ts'
import { Chandlery } from './chandlery.ts'
import { Containerd } from './containerd.ts'
import { print, type Report } from './report.ts'

const MIB = 1024 * 1024
const REGISTRY = 'rolling.test'
const REPOSITORY = 'team/app'
const RESTARTS = 3
const WAIT_MS = 20_000
/** A large layer takes longer than the server has to end. */
const DRIP = { bytes: MIB / 2, everyMs: 20 }
const SIZES = [MIB, 6 * MIB, 40 * MIB]
const TIMES = { shutdownDelay: '500ms', shutdownTimeout: '1s' }

export async function checkRolling(report: Report, directory: string): Promise<void> {
  await report.check(
    `containerd loses no pull in ${RESTARTS} restarts, the registry being its second host`,
    () => restartUnderPulls(`${directory}/fallback`, ({ upstream }) => upstream.url),
  )
  await report.check(
    `containerd loses no pull in ${RESTARTS} restarts of the mirror alone, behind a front that waits`,
    () => restartUnderPulls(`${directory}/alone`, ({ front }) => front.url),
  )
}

interface Scene {
  readonly upstream: TestRegistry
  readonly front: ServiceFront
}

async function restartUnderPulls(
  directory: string,
  lastHost: (scene: Scene) => string,
): Promise<void> {
  await mkdir(directory, { recursive: true })
  await using upstream = await startRegistry()
  upstream.fault({ match: { kind: 'blob', method: 'GET' }, drip: DRIP })
  const config = { ...mirrorOf(REGISTRY, upstream.url), ...TIMES }
  await using chandlery = await Chandlery.create({ directory: `${directory}/chandlery`, config })
  await chandlery.start()
  await using front = await ServiceFront.listen({ waitMs: WAIT_MS })
  front.backends = [chandlery]
  const server = lastHost({ upstream, front })
  const mirror = server === front.url ? server : chandlery.url
  const hosts = { mirror, server }
  await using containerd = await Containerd.start(`${directory}/containerd`, hosts, [REGISTRY])
  const load = new Load(containerd, upstream)
  for (let i = 0; i < RESTARTS; i++) {
    await sleep(1_000)
    const code = await chandlery.stop('SIGTERM')
    if (code !== 0) throw new Error(`it ended with ${code}`)
    await chandlery.start()
  }
  await load.end()
}

/** Two that pull one cold image after the other, and one that pulls the same again and again. */
class Load {
  readonly #containerd: Containerd
  readonly #upstream: TestRegistry
  readonly #workers: Promise<void>[]
  readonly #failures: string[] = []
  #pulls = 0
  #cold = 0
  #ending = false

  constructor(containerd: Containerd, upstream: TestRegistry) {
    this.#containerd = containerd
    this.#upstream = upstream
    this.#add('held', [MIB, 3 * MIB])
    const cold = () => this.#coldTag()
    this.#workers = [this.#work(cold), this.#work(cold), this.#work(() => 'held')]
  }

  /** Throws where one failed. */
  async end(): Promise<void> {
    this.#ending = true
    await Promise.all(this.#workers)
    print(`        ${this.#pulls} pulls, ${this.#failures.length} failed`)
    if (this.#failures.length > 0) throw new Error(this.#failures.join('\n'))
  }

  async #work(tagOf: () => string): Promise<void> {
    while (!this.#ending) {
      const image = `${REGISTRY}/${REPOSITORY}:${tagOf()}`
      try {
        await this.#containerd.fetch(image)
        await this.#containerd.remove(image)
        this.#pulls += 1
      } catch (error) {
        this.#failures.push(String(error))
      }
    }
  }

  #coldTag(): string {
    const number = this.#cold++
    const tag = `cold-${number}`
    this.#add(tag, [SIZES[number % SIZES.length]!, SIZES[(number + 1) % SIZES.length]!])
    return tag
  }

  #add(tag: string, sizes: readonly number[]): void {
    const layers = sizes.map((size, index) => {
      const descriptor = this.#upstream.addSyntheticBlob(size, `${tag} ${index}`)
      const content = this.#upstream.content.blob(REPOSITORY, descriptor.digest)
      if (!content) throw new Error('the test registry lost its blob')
      return { descriptor, content }
    })
    this.#upstream.addImage(REPOSITORY, tag, { layers })
  }
}
