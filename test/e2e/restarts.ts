// What survives: kill -9 in the middle of a download, and a second server on the same directory.
import { setTimeout as sleep } from 'node:timers/promises'
import { rawRequest } from '../support/raw-client.ts'
import { Chandlery } from './chandlery.ts'
import { answers } from './processes.ts'
import { expectAll } from './pulls.ts'
import type { Report } from './report.ts'
import { skopeoPull } from './skopeo.ts'
import type { World } from './world.ts'

const MIB = 1024 * 1024
const LAYER_BYTES = 64 * MIB
const STALL_AT = 40 * MIB
const SEEN_BEFORE_KILL = 16 * MIB
const UNREADY_MS = 2_000

/** Kills Chandlery while a layer is half there, starts it again, and pulls. */
export async function checkKill(
  report: Report,
  chandlery: Chandlery,
  world: World,
  directory: string,
) {
  const { slow } = world
  const layer = slow.addSyntheticBlob(LAYER_BYTES, 'killed', { repository: 'team/app' })
  const held = slow.content.blob('team/app', layer.digest)
  if (!held) throw new Error('the test registry lost its blob')
  const image = slow.addImage('team/app', 'v1', { layers: [{ descriptor: layer, content: held }] })
  await report.check(
    'killed in the middle of a download, Chandlery ends the answer incomplete',
    async () => {
      slow.fault({
        match: { method: 'GET', digest: layer.digest },
        times: 1,
        stall: { afterBytes: STALL_AT },
      })
      using response = await rawRequest(
        `${chandlery.url}/v2/slow.test/team/app/blobs/${layer.digest}`,
      )
      const seen = await response.read(SEEN_BEFORE_KILL)
      if (seen.length < SEEN_BEFORE_KILL) throw new Error(`only ${seen.length} bytes came`)
      await chandlery.stop('SIGKILL')
      const rest = await response.body()
      if (rest.complete) throw new Error('the body was complete, although the layer was not there')
      slow.clearFaults()
    },
  )
  await report.check('started again, it serves the right content', async () => {
    await chandlery.start()
    const got = await skopeoPull(`${chandlery.host}/slow.test/team/app:v1`, directory, false)
    expectAll(got, [image.digest, ...image.blobs.map((blob) => blob.digest)])
  })
  await report.check('what was held before the kill is served without the registries', async () => {
    await pullHeld(chandlery, world, directory)
  })
}

/** Starts a second server on the directory of the first, then ends the first. */
export async function checkSecondServer(
  report: Report,
  first: Chandlery,
  world: World,
  directory: string,
) {
  const config = { ...world.config }
  await using second = await Chandlery.create({
    directory: `${directory}/second`,
    cache: first.cache,
    config,
  })
  await report.check(
    'a second server on the directory stays unready and names the owner',
    async () => {
      const daemon = await second.launch()
      await daemon.until(() => answers(`${second.adminUrl}/readyz`, 503))
      await sleep(UNREADY_MS)
      const response = await fetch(`${second.adminUrl}/readyz`)
      const named = (await response.text()) + (await second.log())
      if (response.status !== 503) throw new Error(`/readyz answers ${response.status}`)
      if (!named.includes(String(first.pid)))
        throw new Error(`the owner ${first.pid} is not in: ${named}`)
      await pullHeld(first, world, `${directory}/pull`)
    },
  )
  await report.check('SIGTERM ends the first server with 0', async () => {
    const code = await first.stop('SIGTERM')
    if (code !== 0) throw new Error(`it ended with ${code}`)
  })
  await report.check('the second server then takes over and serves what is held', async () => {
    const deadline = Date.now() + 20_000
    while (!(await answers(`${second.adminUrl}/readyz`, 200))) {
      if (Date.now() > deadline) throw new Error(`not ready in time:\n${await second.log()}`)
      await sleep(100)
    }
    await pullHeld(second, world, `${directory}/pull`)
  })
}

async function pullHeld(chandlery: Chandlery, { images }: World, directory: string): Promise<void> {
  const image = images[0]
  if (!image) throw new Error('no image')
  const got = await skopeoPull(`${chandlery.host}/${image.name}:${image.tag}`, directory, true)
  expectAll(
    got,
    image.all.map(({ digest }) => digest),
  )
}
