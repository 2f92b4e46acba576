import { createSocket } from 'node:dgram'
import type { LookupAddress } from 'node:dns'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'

import { Resolver } from '../../../src/upstream/address/resolver.ts'

const v4 = (address: string): LookupAddress => ({ address, family: 4 })
const FAILURE = Object.assign(new Error('SERVFAIL'), { code: 'EAI_AGAIN' })

/** A resolver whose answers are set by the test. */
function scripted(options: { patienceMs?: number } = {}) {
  const script = {
    now: 0,
    questions: 0,
    answer: (): Promise<LookupAddress[]> => Promise.resolve([v4('192.0.2.1')]),
  }
  const ask = () => {
    script.questions += 1
    return script.answer()
  }
  const resolver = new Resolver({ ask, now: () => script.now, ...options })
  return { script, resolve: () => resolver.resolve('registry.test'), resolver }
}

describe('a resolver', () => {
  test('that fails is replaced by its last good answer for a day', async () => {
    const { script, resolve } = scripted()
    const good = await resolve()
    script.answer = () => Promise.reject(FAILURE)
    expect(await resolve()).toEqual(good)
    script.now += 86_400_000
    await expect(resolve()).rejects.toBe(FAILURE)
  })

  test('that fails without an earlier answer fails with its own error', async () => {
    const { script, resolve } = scripted()
    script.answer = () => Promise.reject(FAILURE)
    await expect(resolve()).rejects.toBe(FAILURE)
    script.answer = () => Promise.resolve([])
    await expect(resolve()).rejects.toMatchObject({ code: 'ENOTFOUND' })
  })

  test('that says nothing is not waited for where there is an earlier answer', async () => {
    const { script, resolve } = scripted({ patienceMs: 20 })
    const good = await resolve()
    const { promise, resolve: answer } = Promise.withResolvers<LookupAddress[]>()
    script.answer = () => promise
    expect(await resolve()).toEqual(good)
    answer([v4('192.0.2.2')])
    await sleep(0)
    script.answer = () => Promise.reject(FAILURE)
    expect(await resolve()).toEqual([v4('192.0.2.2')])
  })

  test('that keeps saying nothing is waited for once, not by each connection', async () => {
    const { script, resolve } = scripted({ patienceMs: 200 })
    const good = await resolve()
    const unanswered = Promise.withResolvers<LookupAddress[]>()
    script.answer = () => unanswered.promise
    await resolve()
    const startedAt = performance.now()
    expect(await resolve()).toEqual(good)
    expect(performance.now() - startedAt).toBeLessThan(150)
    script.answer = () => new Promise(() => {})
    unanswered.reject(FAILURE)
    const asked = async () => {
      expect(await resolve()).toEqual(good)
      return script.questions
    }
    await expect.poll(asked).toBe(3)
  })

  test('that answers again is waited for again', async () => {
    const { script, resolve } = scripted({ patienceMs: 30 })
    await resolve()
    script.answer = () => Promise.reject(FAILURE)
    await resolve()
    script.answer = () => Promise.resolve([v4('192.0.2.2')])
    await resolve()
    await sleep(0)
    script.answer = () => sleep(5).then(() => [v4('192.0.2.3')])
    expect(await resolve()).toEqual([v4('192.0.2.3')])
  })

  test('is asked once for all that ask at the same time', async () => {
    const { script, resolve } = scripted()
    await Promise.all([resolve(), resolve(), resolve()])
    expect(script.questions).toBe(1)
    await resolve()
    expect(script.questions).toBe(2)
  })

  test('puts addresses that did not answer last for a while', async () => {
    const { script, resolve, resolver } = scripted()
    script.answer = () => Promise.resolve([v4('192.0.2.1'), v4('192.0.2.2')])
    resolver.avoid('192.0.2.1')
    const order = async () => (await resolve()).map(({ address }) => address)
    expect(await order()).toEqual(['192.0.2.2', '192.0.2.1'])
    script.now += 60_000
    expect(await order()).toEqual(['192.0.2.1', '192.0.2.2'])
  })

  test('is not asked about an address', async () => {
    const { script, resolver } = scripted()
    expect(await resolver.resolve('2001:db8::1')).toEqual([{ address: '2001:db8::1', family: 6 }])
    expect(script.questions).toBe(0)
  })
})

/** A DNS server that answers every A question with 192.0.2.7, and others with nothing (RFC 1035 4). */
async function dnsServer() {
  const socket = createSocket('udp4')
  const { promise, resolve } = Promise.withResolvers<void>()
  socket.bind(0, '127.0.0.1', resolve)
  await promise
  let questions = 0
  socket.on('message', (message, { port, address }) => {
    questions += 1
    const question = message.subarray(12, message.indexOf(0, 12) + 5)
    const isA = question.readUInt16BE(question.length - 4) === 1
    const head = Buffer.from([0, 0, 0x81, 0x80, 0, 1, 0, isA ? 1 : 0, 0, 0, 0, 0])
    message.copy(head, 0, 0, 2)
    const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7])
    socket.send(Buffer.concat([head, question, ...(isA ? [answer] : [])]), port, address)
  })
  return {
    at: `127.0.0.1:${socket.address().port}`,
    questions: () => questions,
    [Symbol.dispose]: () => socket.close(),
  }
}

test('DNS servers that are configured are asked instead of the system', async () => {
  using server = await dnsServer()
  const resolver = new Resolver({ servers: [server.at] })
  expect(await resolver.resolve('registry.test')).toEqual([v4('192.0.2.7')])
  expect(server.questions()).toBe(2)
})
