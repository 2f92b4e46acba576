// The world of the scenario: two registries behind one strict token server, filled with images, and
// Chandlery with a rewrite rule for each. Clients see the names on the left, the registries hold
// what is on the right:
//   hub.test/cp/NAME   →  first registry,  team/NAME     (everybody may pull)
//   quay.test/NAME     →  second registry, mirror/NAME   (only the user that Chandlery has)
//   slow.test/NAME     →  a test registry with faults, NAME
import { createSigningKey } from '../support/certificates.ts'
import { jwtSigner } from '../support/jwt.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { startTokenServer, type TestTokenServer } from '../support/token-server.ts'
import { filledRegistry, type DockerRegistry, type TokenAuth } from './docker-registry.ts'
import { pushImage, type ImagePlan, type PushedImage } from './push.ts'

const MIB = 1024 * 1024
const ISSUER = 'e2e issuer'
const USER = 'bot'
const PASSWORD = 'correct horse'

const MULTI = { architectures: ['amd64', 'arm64'], layers: [40_000, 3 * MIB] }
const BIG = { architectures: ['amd64'], layers: [150 * MIB, 50 * MIB, 1000] }
const HUB: readonly ImagePlan[] = [
  { repository: 'team/multi-oci', type: 'oci', ...MULTI },
  { repository: 'team/big-docker', type: 'docker', ...BIG },
]
const QUAY: readonly ImagePlan[] = [
  { repository: 'mirror/app/multi-docker', type: 'docker', ...MULTI },
  { repository: 'mirror/app/big-oci', type: 'oci', ...BIG },
]

/** An image, by the name clients use: registry and repository. */
export interface KnownImage extends PushedImage {
  readonly name: string
}

export interface World {
  readonly tokens: TestTokenServer
  readonly images: readonly KnownImage[]
  readonly slow: TestRegistry
  /** Chandlery's `mirrors` and `configs`. */
  readonly config: Readonly<Record<string, unknown>>
  /** The registries' names, as clients know them. */
  readonly names: readonly string[]
  /** Stops the two registries and the token server. */
  stopUpstreams(): Promise<void>
}

/** Starts and fills everything; `stack` ends it. */
export async function buildWorld(directory: string, stack: AsyncDisposableStack): Promise<World> {
  const pair = await createSigningKey(directory)
  const tokens = stack.use(await startTokenServer(tokenOptions(jwtSigner(pair, ISSUER))))
  const auth: TokenAuth = { tokens, issuer: ISSUER, certFile: pair.certFile }
  const pushed: PushedImage[] = []
  const filled = async (name: string, plans: readonly ImagePlan[]) => {
    const fill = async (url: string) => {
      for (const plan of plans) pushed.push(await pushImage(url, plan, `${directory}/layers`))
    }
    return stack.use(await filledRegistry(`${directory}/${name}`, auth, fill))
  }
  const hub = await filled('hub', HUB)
  const quay = await filled('quay', QUAY)
  const slow = stack.use(await startRegistry())
  return {
    tokens,
    images: pushed.map((image) => ({ ...image, name: clientName(image.repository) })),
    slow,
    config: chandleryConfig(hub, quay, slow, tokens),
    names: ['hub.test', 'quay.test', 'slow.test'],
    stopUpstreams: async () => {
      await Promise.all([hub.stop(), quay.stop(), tokens.stop()])
    },
  }
}

// It knows the rewritten names alone and refuses all others, as ghcr.io and Huawei SWR do.
function tokenOptions(sign: ReturnType<typeof jwtSigner>) {
  const repositories = Object.fromEntries([
    ...HUB.map((plan) => [plan.repository, 'anonymous' as const] as const),
    ...QUAY.map((plan) => [plan.repository, [USER]] as const),
  ])
  return { service: 'e2e registries', users: { [USER]: PASSWORD }, repositories, sign }
}

function clientName(repository: string): string {
  return repository.replace(/^team\//, 'hub.test/cp/').replace(/^mirror\//, 'quay.test/')
}

function chandleryConfig(
  hub: DockerRegistry,
  quay: DockerRegistry,
  slow: TestRegistry,
  tokens: TestTokenServer,
) {
  const auth = { username: USER, password: PASSWORD, realms: [tokens.host] }
  return {
    mirrors: {
      'hub.test': { endpoint: [hub.url], rewrite: { '^cp/(.+)$': 'team/$1' } },
      'quay.test': { endpoint: [quay.url], rewrite: { '^(.+)$': 'mirror/$1' } },
      'slow.test': { endpoint: [slow.url] },
    },
    configs: { [quay.host]: { auth } },
    // The second round has to ask the stopped upstreams, and to go on without them.
    freshness: { ttl: '1s' },
  }
}
