// Every implementation of Content passes one suite.
import { afterEach, beforeEach } from 'vitest'
import { RepairingContent } from '../../src/cache/blob/repairing-content.ts'
import { type Content, HeldContent } from '../../src/cache/content.ts'
import { Downloads } from '../../src/cache/download/downloads.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { contentSuite } from '../suites/content.ts'
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts'
import { begin, createOn, SILENT, upstream, type UpstreamOptions } from './bypass/bypass-fixture.ts'
import { FakeContent } from '../server/fake-content.ts'

let directory: TemporaryDirectory
let downloads: Downloads | undefined

beforeEach(async () => {
  directory = await temporaryDirectory()
})

afterEach(async () => {
  await downloads?.stop()
  downloads = undefined
  await directory.remove()
})

function held(bytes: Buffer, brokenAt = Infinity): HeldContent {
  return new HeldContent(digestOf(bytes), {
    size: bytes.length,
    read: async (into, at) => {
      if (at >= brokenAt) throw Object.assign(new Error('I/O error'), { code: 'EIO' })
      return bytes.copy(into, 0, at, Math.min(at + into.length, brokenAt))
    },
    close: async () => {},
  })
}

/** A reader of a download, on a disk with room for this many bytes; those of one test share it. */
function arriving(room: number, options?: UpstreamOptions) {
  return async (bytes: Buffer): Promise<Content> => {
    const createIngest = createOn({ directory: directory.path, room })
    downloads ??= new Downloads({ observer: SILENT, retryDelayMs: 1, createIngest })
    const size = options?.size === false ? undefined : bytes.length
    const one = upstream(() => bytes, options)
    const download = begin(downloads, digestOf(bytes), [one], size)
    await (size === undefined ? download.opened : download.ready)
    return download.read()
  }
}

const MIB = 1024 * 1024

contentSuite('a held blob', async (bytes) => held(bytes))

contentSuite('a held blob that turns out to be damaged', async (bytes) => {
  const repair = async () => held(bytes)
  return new RepairingContent({ content: held(bytes, bytes.length / 2), repair })
})

contentSuite('a blob that arrives', arriving(Infinity))
contentSuite('a blob that arrives by parts', arriving(Infinity, { delayMs: 1 }))
contentSuite('a blob that cannot be written', arriving(-1))
contentSuite('a blob that cannot be written, ranges ignored', arriving(-1, { ranged: false }))
contentSuite('a blob that cannot be written, of unknown size', arriving(-1, { size: false }))
contentSuite('a blob under which the disk fills up', arriving(1.2 * MIB))

contentSuite('the double in tests of the sender', async (bytes) => new FakeContent(bytes))
