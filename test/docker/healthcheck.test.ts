import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'

const SCRIPT = join(import.meta.dirname, '../../bin/healthcheck.js')

/** Returns the exit code and output of the health check, with this address as CHANDLERY_ADMIN_LISTEN. */
async function check(address: string | undefined): Promise<{ code: number; stderr: string }> {
  const env = { ...process.env, CHANDLERY_ADMIN_LISTEN: address }
  const child = spawn(process.execPath, [SCRIPT], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'close')])
  return { code: Number(code), stderr }
}

interface Listening extends Disposable {
  readonly port: number
}

/** Starts an admin API that answers with this status, on all addresses. */
async function listen(status: number): Promise<Listening> {
  const server = createServer(({ url }, response) => {
    response.writeHead(url === '/healthz' ? status : 404).end()
  })
  return await listening(server)
}

async function listening(server: ReturnType<typeof createTcpServer>): Promise<Listening> {
  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(0, '::', resolve)
  await promise
  const address = server.address()
  if (typeof address !== 'object' || !address) throw new Error('no address')
  return { port: address.port, [Symbol.dispose]: () => void server.close() }
}

describe.concurrent("the image's health check", () => {
  test.each(['0.0.0.0', '127.0.0.1', '', '[::]', '[::1]', 'localhost'])(
    'finds the server that listens on "%s"',
    async (host) => {
      using server = await listen(200)
      expect(await check(`${host}:${server.port}`)).toEqual({ code: 0, stderr: '' })
    },
  )

  test('fails where the server answers with an error', async () => {
    using server = await listen(500)
    const ended = await check(`:${server.port}`)
    expect(ended).toMatchObject({ code: 1, stderr: 'not healthy: /healthz answers 500\n' })
  })

  test('fails where nobody listens', async () => {
    const server = await listening(createTcpServer())
    server[Symbol.dispose]()
    expect(await check(`127.0.0.1:${server.port}`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('ECONNREFUSED'),
    })
  })

  test('fails where the server takes the connection and says nothing', async () => {
    using server = await listening(createTcpServer())
    expect(await check(`127.0.0.1:${server.port}`)).toMatchObject({
      code: 1,
      stderr: 'not healthy: /healthz does not answer in time\n',
    })
  })

  test('fails without an address to ask, and says which variable has it', async () => {
    expect(await check(undefined)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('CHANDLERY_ADMIN_LISTEN'),
    })
  })
})
