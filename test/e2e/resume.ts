// kill -9 after most of a big layer has arrived: started again, Chandlery fetches only what is
// missing.
import { setTimeout as sleep } from 'node:timers/promises'
import { syntheticContent } from '../support/content.ts'
import { rawRequest } from '../support/raw-client.ts'
import type { Chandlery } from './chandlery.ts'
import { expectAll } from './pulls.ts'
import { print, type Report } from './report.ts'
import { skopeoPull } from './skopeo.ts'
import type { World } from './world.ts'

const MIB = 1024 * 1024
const SIZE = 160 * MIB
const KILL_AT = 104 * MIB
/**
 * The interval of checkpoints in bytes: what arrived after the last one may have to be fetched
 * again.
 */
const CHECKPOINT = 64 * MIB
/** What the registry hands to its kernel for requests that are then ended counts as sent. */
const IN_BUFFERS = 16 * MIB
/** About 8 MiB/s per connection: the first checkpoint is on the disk long before the kill. */
const DRIP = { bytes: 64 * 1024, everyMs: 8 }
const PATIENCE_MS = 20_000

/**
 * Kills Chandlery in the middle of a download, starts it again, and counts what the registry sends.
 */
export async function checkResume(
  report: Report,
  chandlery: Chandlery,
  { slow }: World,
  directory: string,
): Promise<void> {
  const content = syntheticContent(SIZE, 'resumed')
  const descriptor = slow.addSyntheticBlob(SIZE, 'resumed', { repository: 'team/resumed' })
  const image = slow.addImage('team/resumed', 'v1', { layers: [{ descriptor, content }] })
  const { digest } = descriptor
  let sent = 0
  await report.check(
    `killed with ${KILL_AT / MIB} MiB of a layer here, Chandlery is gone`,
    async () => {
      slow.fault({ match: { method: 'GET', digest }, drip: DRIP })
      using response = await rawRequest(
        `${chandlery.url}/v2/slow.test/team/resumed/blobs/${digest}`,
      )
      const read = response.body()
      const deadline = Date.now() + PATIENCE_MS
      while (slow.bytesSent(digest) < KILL_AT && Date.now() < deadline) await sleep(20)
      await chandlery.stop('SIGKILL')
      slow.clearFaults()
      if ((await read).complete) throw new Error('the whole layer was here before the kill')
      sent = slow.bytesSent(digest)
      if (sent < KILL_AT) throw new Error(`only ${sent} bytes came in time`)
    },
  )
  await report.check(
    'started again, it fetches only what is missing, and gives the right bytes',
    async () => {
      await chandlery.start()
      const got = await skopeoPull(`${chandlery.host}/slow.test/team/resumed:v1`, directory, false)
      expectAll(got, [image.digest, ...image.blobs.map((blob) => blob.digest)])
      const again = slow.bytesSent(digest) - sent
      print(
        `        ${(sent / MIB).toFixed(1)} MiB before the kill, ${(again / MIB).toFixed(1)} after`,
      )
      if (again > SIZE - CHECKPOINT + IN_BUFFERS)
        throw new Error(`${again} of ${SIZE} bytes were fetched again`)
    },
  )
}
