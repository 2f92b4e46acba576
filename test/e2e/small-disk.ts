// Pulls a layer of 100 MiB through a cache with 20 MiB of disk: the layer bypasses it, and what
// fits is kept.
import { mkdir, readdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { startRegistry, type AddedImage, type TestRegistry } from '../support/registry.ts'
import { Chandlery } from './chandlery.ts'
import { run } from './processes.ts'
import { expectAll } from './pulls.ts'
import type { Report } from './report.ts'
import { skopeoPull } from './skopeo.ts'

const MIB = 1024 * 1024
const DISK = 20 * MIB
const CLIENTS = 3
const GONE_MS = 8_000

/** Pulls a large image by several clients at once, then a small one again and again. */
export async function checkSmallDisk(report: Report, directory: string): Promise<void> {
  const cache = `${directory}/cache`
  await mkdir(cache, { recursive: true })
  await using stack = new AsyncDisposableStack()
  await run('mount', ['-t', 'tmpfs', '-o', `size=${DISK}`, 'tmpfs', cache])
  stack.defer(async () => void (await run('umount', ['-l', cache])))
  const registry = stack.use(await startRegistry())
  const large = addImage(registry, 'large', [100 * MIB, 1 * MIB])
  const small = addImage(registry, 'small', [4 * MIB])
  const config = { mirrors: { 'disk.test': { endpoint: [registry.url] } } }
  const chandlery = stack.use(await Chandlery.create({ directory, cache, config }))
  await chandlery.start()
  const pull = async (image: AddedImage, tag: string, client: number) => {
    const name = `${chandlery.host}/disk.test/team/app:${tag}`
    const got = await skopeoPull(name, `${directory}/pull-${client}`, false)
    expectAll(got, [image.digest, ...image.blobs.map((blob) => blob.digest)])
  }
  await report.check('a layer of 100 MiB is pulled through a cache of 20 MiB', async () => {
    const clients = Array.from({ length: CLIENTS }, (_, client) => pull(large, 'large', client))
    await Promise.all(clients)
    const ready = await fetch(`${chandlery.adminUrl}/readyz?verbose`)
    const text = await ready.text()
    if (ready.status !== 200) throw new Error(`/readyz answers ${ready.status}: ${text}`)
    if (!/blobs that do not fit are not being kept: the file system is full/.test(text)) {
      throw new Error(`/readyz?verbose does not say why nothing is kept:\n${text}`)
    }
    await untilEmpty(`${cache}/ingest`)
  })
  await report.check(
    'an image that fits is kept there, and pulled without the registry',
    async () => {
      await pull(small, 'small', 0)
      await registry.close()
      await pull(small, 'small', 0)
    },
  )
}

/** A bypassing blob leaves nothing behind shortly after its last reader has ended. */
async function untilEmpty(directory: string): Promise<void> {
  const deadline = Date.now() + GONE_MS
  for (;;) {
    const left = await readdir(directory)
    if (left.length === 0) return
    if (Date.now() > deadline) throw new Error(`${left.join(', ')} takes the space`)
    await sleep(100)
  }
}

function addImage(registry: TestRegistry, tag: string, sizes: readonly number[]): AddedImage {
  const layers = sizes.map((size) => {
    const descriptor = registry.addSyntheticBlob(size, `${tag} ${size}`, { repository: 'team/app' })
    const content = registry.content.blob('team/app', descriptor.digest)
    if (!content) throw new Error('the test registry lost its blob')
    return { descriptor, content }
  })
  return registry.addImage('team/app', tag, { layers })
}
