// Starting and stopping the whole server, also at once and in the wrong moment.
import { readdir, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Chandlery } from '../src/chandlery.ts'
import { loadConfig } from '../src/config/load.ts'
import { createLogger } from '../src/observability/logger.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

let directory: TemporaryDirectory

beforeEach(async () => {
  directory = await temporaryDirectory()
})

afterEach(async () => {
  await directory.remove()
})

async function create(): Promise<Chandlery> {
  const file = directory.join('chandlery.yaml')
  const listen = '127.0.0.1:0'
  const storage = { directory: directory.join('cache') }
  await writeFile(file, JSON.stringify({ listen, admin: { listen }, storage }))
  const { config } = await loadConfig({ config: file }, {})
  const logger = createLogger({ level: 'silent', destination: { write: () => {} } })
  return new Chandlery(config, { version: '0.0.0-test', logger })
}

function claims(): Promise<string[]> {
  return readdir(directory.join('cache', 'owner')).catch(() => [])
}

describe('a server that is stopped while it starts', () => {
  test.each([0, 1, 2, 5, 10, 20, 40])(
    'after %i ms, gives back what it took and listens no more',
    async (afterMs) => {
      const server = await create()
      const started = server.start().catch(() => undefined)
      if (afterMs > 0) await sleep(afterMs)
      await server.stop()
      expect(server.ports).toEqual({ api: 0, admin: 0 })
      expect(await claims()).toEqual([])
      await started
      expect(server.ports).toEqual({ api: 0, admin: 0 })
      expect(await claims()).toEqual([])
    },
  )

  test('while it waits for another to end, leaves the other alone', async () => {
    const first = await create()
    await first.start()
    const second = await create()
    const started = second.start().catch((error: unknown) => error)
    await sleep(100)
    await second.stop()
    expect(await started).toBeInstanceOf(Error)
    expect(await claims()).toHaveLength(1)
    await first.stop()
    expect(await claims()).toEqual([])
  })
})
