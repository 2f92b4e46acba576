// One round of pulls: every image by every client, each client starting from nothing and with a
// Chandlery of its own, so that each has cold pulls.
import { Containerd } from './containerd.ts'
import type { Chandlery } from './chandlery.ts'
import { Podman } from './podman.ts'
import type { Report } from './report.ts'
import { skopeoPull } from './skopeo.ts'
import type { KnownImage, World } from './world.ts'

/** A Chandlery for each client. */
export interface Chandleries {
  readonly skopeo: Chandlery
  readonly podman: Chandlery
  readonly containerd: Chandlery
}

interface Round {
  readonly report: Report
  readonly world: World
  readonly chandleries: Chandleries
  /** Empty; for the clients' storage. */
  readonly directory: string
  /** Ends every sentence: "while the registries are up". */
  readonly when: string
}

/** Pulls everything with skopeo, podman and containerd, and compares digests. */
export async function pullEverything(round: Round): Promise<void> {
  const { world, chandleries, directory } = round
  for (const image of world.images) await pullWithSkopeo(round, image)
  const podman = await Podman.create(`${directory}/podman`, chandleries.podman.host, world.names)
  for (const image of world.images) await pullWithPodman(round, podman, image)
  await using containerd = await Containerd.start(
    `${directory}/containerd`,
    chandleries.containerd.url,
    world.names,
  )
  for (const image of world.images) await pullWithContainerd(round, containerd, image)
}

async function pullWithSkopeo({ report, chandleries, directory, when }: Round, image: KnownImage) {
  const base = `${chandleries.skopeo.host}/${image.name}`
  for (const [how, suffix] of [
    ['by tag', `:${image.tag}`],
    ['by digest', `@${image.top.digest}`],
  ] as const) {
    await report.check(`skopeo pulls all of ${image.name} ${how}, ${when}`, async () => {
      const got = await skopeoPull(base + suffix, `${directory}/skopeo`, true)
      expectAll(
        got,
        image.all.map(({ digest }) => digest),
      )
    })
  }
}

async function pullWithPodman({ report, when }: Round, podman: Podman, image: KnownImage) {
  const name = `${image.name}:${image.tag}`
  await report.check(`podman pulls ${name}, ${when}`, async () => {
    expectAll(new Set(await podman.pull(name)), [image.top.digest])
    await podman.remove(name)
  })
}

async function pullWithContainerd(
  { report, when }: Round,
  containerd: Containerd,
  image: KnownImage,
) {
  const pull = async (name: string) => {
    const digest = await containerd.pull(name, image.all.length > image.amd64.length)
    if (digest !== image.top.digest) throw new Error(`it got ${digest}, not ${image.top.digest}`)
    expectAll(
      await containerd.content(),
      image.all.map((part) => part.digest),
    )
  }
  const [byTag, byDigest] = [`${image.name}:${image.tag}`, `${image.name}@${image.top.digest}`]
  await report.check(`containerd pulls ${byTag} with ns, ${when}`, () => pull(byTag))
  await report.check(`containerd pulls ${image.name} by digest, ${when}`, () => pull(byDigest))
}

/** Fails where a digest is missing. */
export function expectAll(got: ReadonlySet<string>, wanted: readonly string[]): void {
  const missing = wanted.filter((digest) => !got.has(digest))
  if (missing.length > 0) {
    throw new Error(`missing: ${missing.join(', ')}\ngot: ${[...got].join(', ')}`)
  }
}
