// What a request waits for besides the network: secrets, credential helpers and other requests. Each
// wait ends with the caller, and in bounded time.
import { chmod, writeFile } from 'node:fs/promises'
import { afterEach, describe, expect, test } from 'vitest'

import { ConfiguredCredentials } from '../../src/upstream/credentials/configured.ts'
import type { CredentialSource } from '../../src/upstream/credentials/credentials.ts'
import { startRegistry } from '../support/registry.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import { collect, failureOf, REPO, upstreamOver, type Fixture } from './upstream-fixture.ts'

const { signal } = new AbortController()
const TIMEOUT_MS = 150

/** A secret on a file system that has stopped answering, until `answer`. */
function hungSecret() {
  const reading = Promise.withResolvers<string>()
  const secret = {
    reads: 0,
    read: async () => {
      secret.reads += 1
      return await reading.promise
    },
    toString: () => '{"file":"/mnt/secrets/password"}',
  }
  return { secret, answer: (text: string) => reading.resolve(text) }
}

/** What the promise rejects with, and after how long. */
async function rejection(promise: Promise<unknown>): Promise<{ error: unknown; ms: number }> {
  const startedAt = performance.now()
  const error = await promise.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  )
  return { error, ms: performance.now() - startedAt }
}

function pull(at: Fixture, credentials: CredentialSource, until?: AbortSignal) {
  return at.upstream.getManifest(REPO, 'latest', { credentials }, until)
}

describe('a caller that leaves', () => {
  const never: CredentialSource = { credentialFor: () => new Promise(() => undefined) }

  test('is released at once while a credential for a document is being read', async () => {
    await using registry = await startRegistry()
    await using at = upstreamOver([registry.url])
    const leaving = new AbortController()
    const left = rejection(pull(at, never, leaving.signal))
    leaving.abort(new Error('left'))
    expect(await left).toMatchObject({ error: new Error('left') })
  })

  test('is released at once while a credential for a blob is being read', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(Buffer.from('content'))
    await using at = upstreamOver([registry.url])
    const [source] = at.upstream.blobSources(REPO, { credentials: never })
    const leaving = new AbortController()
    const left = rejection(source!.fetch(digest, 0, leaving.signal))
    leaving.abort(new Error('left'))
    expect(await left).toMatchObject({ error: new Error('left') })
  })

  test('is released at once while it waits for what another request finds out about the only endpoint', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    const fault = registry.fault({ stall: 'headers' })
    await using at = upstreamOver([registry.url], { breaker: { openMs: 60_000 } })
    await failureOf(pull(at, at.requester.credentials))
    const trying = pull(at, at.requester.credentials)
    await expect.poll(() => registry.requests.length).toBe(2)
    const leaving = new AbortController()
    const left = rejection(pull(at, at.requester.credentials, leaving.signal))
    leaving.abort(new Error('left'))
    expect((await left).error).toEqual(new Error('left'))
    expect(registry.requests.at(-1)?.finished).toBe(false)
    fault.release()
    await trying
  })

  test('is released at once while it waits for a probe that another request started', async () => {
    const clock = { now: Date.now() }
    await using mirror = await startRegistry()
    await using registry = await startRegistry()
    registry.fault({ match: { kind: 'manifest' }, status: 503 })
    registry.fault({ match: { kind: 'ping' }, stall: 'headers' })
    const breaker = { threshold: 1, openMs: 1000, random: () => 0.5 }
    await using at = upstreamOver([mirror.url, registry.url], { breaker, now: () => clock.now })
    await failureOf(pull(at, at.requester.credentials))
    clock.now += 1000
    const first = failureOf(pull(at, at.requester.credentials))
    const pings = () => registry.requests.filter(({ kind }) => kind === 'ping')
    await expect.poll(() => pings().length).toBe(1)
    const leaving = new AbortController()
    const left = rejection(pull(at, at.requester.credentials, leaving.signal))
    await expect.poll(() => mirror.requests.length).toBe(3)
    leaving.abort(new Error('left'))
    expect((await left).error).toEqual(new Error('left'))
    expect(await first).toMatchObject({ reason: 'timed-out', endpoint: `${registry.url}/v2` })
    expect(pings()).toHaveLength(1)
  })
})

describe('a secret that cannot be read because its file system hangs', () => {
  test('fails in bounded time and says which one it is and what to check', async () => {
    const { secret } = hungSecret()
    const credentials = new ConfiguredCredentials({
      hosts: { 'a.test': { auth: { username: 'bot', password: secret } } },
      timeoutMs: TIMEOUT_MS,
    })
    const { error, ms } = await rejection(credentials.credentialFor({ host: 'a.test' }))
    expect(error).toMatchObject({
      name: 'CredentialError',
      message:
        'configs."a.test".auth: {"file":"/mnt/secrets/password"} was not read within 0.15 s: ' +
        'check the file system it is on',
    })
    expect(ms).toBeGreaterThan(TIMEOUT_MS - 10)
  })

  test('is read by one at a time, and later requests do not wait again', async () => {
    const { secret, answer } = hungSecret()
    const credentials = new ConfiguredCredentials({
      hosts: { 'a.test': { auth: { username: 'bot', password: secret } } },
      timeoutMs: TIMEOUT_MS,
    })
    const ask = () => credentials.credentialFor({ host: 'a.test' })
    await Promise.all(Array.from({ length: 5 }, () => rejection(ask())))
    const later = await Promise.all(Array.from({ length: 5 }, () => rejection(ask())))
    expect(Math.max(...later.map(({ ms }) => ms))).toBeLessThan(TIMEOUT_MS / 2)
    expect(secret.reads).toBe(1)
    answer('s3cret')
    await expect.poll(ask).toMatchObject({ username: 'bot', password: 's3cret' })
  })

  test('leaves its last value in use', async () => {
    const hung = hungSecret()
    let isHung = false
    const password = {
      read: async () => (isHung ? await hung.secret.read() : await Promise.resolve('s3cret')),
    }
    const credentials = new ConfiguredCredentials({
      hosts: { 'a.test': { auth: { username: 'bot', password } } },
      timeoutMs: TIMEOUT_MS,
    })
    await credentials.credentialFor({ host: 'a.test' })
    isHung = true
    const found = await credentials.credentialFor({ host: 'a.test' })
    expect(found).toMatchObject({ username: 'bot', password: 's3cret' })
  })

  test('does not keep a configuration from taking effect', async () => {
    const { secret } = hungSecret()
    const credentials = new ConfiguredCredentials({
      hosts: { 'a.test': { auth: { username: 'bot', password: secret } } },
      timeoutMs: TIMEOUT_MS,
    })
    await credentials.prepare()
  })

  test('sends requests to the next endpoint and counts against none', async () => {
    await using first = await startRegistry()
    await using second = await startRegistry()
    const image = second.addImage('library/alpine', 'latest')
    const { digest } = second.addBlob(Buffer.from('content'))
    await using at = upstreamOver([first.url, second.url])
    const { secret } = hungSecret()
    const credentials = new ConfiguredCredentials({
      hosts: { [first.host]: { auth: { username: 'bot', password: secret } } },
      timeoutMs: TIMEOUT_MS,
    })
    for (let times = 0; times < 4; times++) {
      expect((await pull(at, credentials)).digest).toBe(image.digest)
    }
    const [failure] = at.events.failures
    expect(failure).toMatchObject({ kind: 'unavailable', reason: 'timed-out' })
    expect(failure?.message).toContain(`configs."${first.host}".auth: {"file":"/mnt/secrets`)
    const [one, two] = at.upstream.blobSources(REPO, { credentials })
    expect(await failureOf(one!.fetch(digest, 0, signal))).toMatchObject({ reason: 'timed-out' })
    const { body } = await two!.fetch(digest, 0, signal)
    expect((await collect(body)).toString()).toBe('content')
    expect(first.requests).toHaveLength(0)
    expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('ok')
  })

  test('fails only the requests that need it where it belongs to the only endpoint', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([registry.url])
    const { secret } = hungSecret()
    const credentials = new ConfiguredCredentials({
      hosts: { [registry.host]: { auth: { username: 'bot', password: secret } } },
      timeoutMs: TIMEOUT_MS,
    })
    const failing = Array.from({ length: 3 }, () => failureOf(pull(at, credentials)))
    await pull(at, at.requester.credentials)
    for (const failure of await Promise.all(failing)) {
      expect(failure).toMatchObject({ kind: 'unavailable', reason: 'timed-out' })
    }
  })
})

describe('a credential helper that hangs', () => {
  const path = process.env['PATH']
  afterEach(() => {
    process.env['PATH'] = path
  })

  test('fails in bounded time and says what to do, and a caller that leaves is released at once', async () => {
    await using directory = await temporaryDirectory()
    const program = directory.join('docker-credential-hang')
    await writeFile(program, '#!/bin/sh\nsleep 60\n')
    await chmod(program, 0o755)
    process.env['PATH'] = `${directory.path}:${path}`
    const config = directory.join('config.json')
    await writeFile(config, JSON.stringify({ credsStore: 'hang' }))
    await using registry = await startRegistry()
    await using at = upstreamOver([registry.url])
    const credentials = new ConfiguredCredentials({
      hosts: {},
      dockerConfigPaths: [config],
      timeoutMs: 1000,
    })
    const staying = failureOf(pull(at, credentials))
    const leaving = new AbortController()
    const left = rejection(pull(at, credentials, leaving.signal))
    leaving.abort(new Error('left'))
    const { error, ms } = await left
    expect(error).toEqual(new Error('left'))
    expect(ms).toBeLessThan(500)
    expect(await staying).toMatchObject({ kind: 'unavailable', reason: 'timed-out' })
    expect((await staying).message).toContain(
      `${config}: docker-credential-hang get: no answer in 1 s: run it by hand to see what it waits for`,
    )
  })
})
