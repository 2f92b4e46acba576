// containerd 2.1 with parallel layer fetch against a cold, a slowly arriving and a held layer. Started
// by containerd2.sh with the directory of a chroot that has it.
import { rmSync } from 'node:fs'
import { chmod, mkdtemp, readFile } from 'node:fs/promises'
import { bytesContent } from '../support/content.ts'
import { MEDIA_TYPES } from '../support/images.ts'
import { startRegistry, type AddedImage, type TestRegistry } from '../support/registry.ts'
import { Chandlery } from './chandlery.ts'
import { ChrootContainerd } from './chroot-containerd.ts'
import { writeLayer } from './layers.ts'
import { expectAll } from './pulls.ts'
import { print, Report } from './report.ts'
import { Tap } from './tap.ts'

const MIB = 1024 * 1024
const LAYER_BYTES = 256 * MIB
const REGISTRY = 'big.test'
/** Some 50 MiB/s and connection: slower than the client, so that its chunks are ahead of the download. */
const DRIP = { bytes: 64 * 1024, everyMs: 1 }
/** What the registry may send beyond the layer: pieces under way twice, where readers steer. */
const MOST_SENT = 1.1

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    print(`e2e: ended by ${signal}`)
    process.exit(1)
  })
}

async function scenario(report: Report, root: string, directory: string): Promise<void> {
  print('e2e: making layers')
  await using registry = await startRegistry()
  const fast = await addImage(registry, directory, 'fast')
  const slow = await addImage(registry, directory, 'slow')
  registry.fault({ match: { method: 'GET', digest: layerOf(slow).digest }, drip: DRIP })
  const mirrors = { [REGISTRY]: { endpoint: [registry.url] } }
  await using chandlery = await Chandlery.create({
    directory: `${directory}/chandlery`,
    config: { mirrors },
  })
  await chandlery.start()
  await using tap = await Tap.listen(Number(new URL(chandlery.url).port))
  const client = async (name: string) =>
    await ChrootContainerd.start(root, `${directory}/${name}`, `http://${tap.host}`, REGISTRY)
  {
    await using containerd = await client('first')
    print(`e2e: ${await containerd.version()}`)
    await checkPull(report, containerd, registry, tap, fast, 'fast')
    await checkPull(report, containerd, registry, tap, slow, 'slow')
  }
  await registry.stop()
  await using containerd = await client('second')
  await report.check('an empty containerd pulls the held layer without the registry', async () => {
    await pull(containerd, fast, 'fast')
  })
  if (report.failed) print(`e2e: Chandlery's complaints:\n${await chandlery.complaints()}`)
}

async function checkPull(
  report: Report,
  containerd: ChrootContainerd,
  registry: TestRegistry,
  tap: Tap,
  image: AddedImage,
  name: string,
): Promise<void> {
  const { digest, size } = layerOf(image)
  await report.check(`containerd pulls a cold layer of 256 MiB from a ${name} registry`, () =>
    pull(containerd, image, name),
  )
  await report.check('it asked for the layer by open-ended ranges, several at once', async () => {
    const ranges = tap.heads
      .filter((head) => head.startsWith('GET ') && head.includes(digest))
      .map((head) => /^range: *(.*)$/im.exec(head)?.[1]?.trim() ?? 'everything')
    print(`        ${ranges.slice(0, 6).join(', ')}, … ${ranges.length} in all`)
    const starts = ranges.map((range) => Number(/^bytes=(\d+)-$/.exec(range)?.[1] ?? NaN))
    const others = starts.filter((start) => start > 0)
    if (!starts.includes(0) || others.length < 3) throw new Error(`it sent: ${ranges.join(', ')}`)
  })
  await report.check('the registry sent the layer about once', async () => {
    const sent = registry.bytesSent(digest)
    const times = sent / size
    print(`        ${times.toFixed(3)} times, in ${registry.requestsFor(digest).length} requests`)
    if (times < 1 || times > MOST_SENT) throw new Error(`it sent ${sent} bytes for ${size}`)
    await Promise.resolve()
  })
}

async function pull(containerd: ChrootContainerd, image: AddedImage, name: string): Promise<void> {
  const digest = await containerd.pull(`${REGISTRY}/team/${name}:v1`)
  if (digest !== image.digest) throw new Error(`it got ${digest}, not ${image.digest}`)
  expectAll(
    await containerd.content(),
    image.blobs.map((blob) => blob.digest),
  )
}

async function addImage(registry: TestRegistry, directory: string, name: string) {
  const { file, digest, diffId, size } = await writeLayer(`${directory}/${name}`, name, LAYER_BYTES)
  const content = bytesContent(await readFile(file))
  const descriptor = { mediaType: MEDIA_TYPES.oci.layer, digest, size }
  return registry.addImage(`team/${name}`, 'v1', { layers: [{ descriptor, diffId, content }] })
}

function layerOf(image: AddedImage) {
  const [layer] = image.layers
  if (!layer) throw new Error('an image without a layer')
  return layer
}

const [root] = process.argv.slice(2)
if (root === undefined)
  throw new Error('started by containerd2.sh, with the directory of the chroot')
const report = new Report()
// Inside, where both containerd and we can see it under its own name.
const directory = await mkdtemp(`${root}/tmp/chandlery-e2e-`)
await chmod(directory, 0o755)
const remove = { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }
process.on('exit', () => rmSync(directory, remove))
await report.check('the scenario runs to its end', () => scenario(report, root, directory))
process.exitCode = report.finish() ? 0 : 1
