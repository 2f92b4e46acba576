// What a whole server tells of its endpoints: /readyz?verbose, /metrics and the log.
import { expect, test } from 'vitest'
import { mirrorOf, startChandlery, type RunningChandlery } from './support/chandlery.ts'
import { startHttpProxy } from './support/proxy-server.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { temporaryDirectory } from './support/temporary-directory.ts'

const REGISTRY = 'registry.test'

test('an endpoint that is down is logged once, and shown elsewhere as long as it is down', async () => {
  await using directory = await temporaryDirectory()
  await using good = await startRegistry()
  const bad = await startRegistry()
  await bad.close()
  for (const tag of ['a', 'b', 'c', 'd']) good.addImage('team/app', tag)
  await using server = await startChandlery(directory.path, mirrorOf(REGISTRY, bad.url, good.url))
  const tell = async (path: string) => await (await fetch(`${server.adminUrl}${path}`)).text()
  expect(await tell('/readyz?verbose')).toContain(`${bad.url}/v2: ok\n`)
  for (const tag of ['a', 'b', 'c', 'd']) {
    const response = await fetch(`${server.url}/v2/team/app/manifests/${tag}?ns=${REGISTRY}`)
    expect(response.status).toBe(200)
  }
  expect(await tell('/readyz?verbose')).toMatch(`${bad.url}/v2: open (${bad.url}/v2: `)
  expect(await tell('/readyz')).toBe('ready\n')
  const state = `chandlery_upstream_endpoint_state{endpoint="${bad.url}/v2",state=`
  const metrics = await tell('/metrics')
  expect(metrics).toContain(`${state}"open"} 1\n`)
  expect(metrics).toContain(`${state}"ok"} 0\n`)
  const lines = server.log.filter(({ msg }) => String(msg).includes('asked last from now on'))
  expect(lines).toMatchObject([{ endpoint: `${bad.url}/v2`, state: 'open', former: 'ok' }])
})

test('an endpoint that breaks off every blob is left for the others, and reported', async () => {
  await using directory = await temporaryDirectory()
  await using bad = await startRegistry()
  await using good = await startRegistry()
  bad.fault({ match: { kind: 'blob', method: 'GET' }, cutAfter: 50_000 })
  const blobs = Array.from({ length: 6 }, (_, index) => Buffer.alloc(400_000, index))
  const digests = blobs.map((blob) => [bad, good].map((each) => each.addBlob(blob).digest)[0]!)
  await using server = await startChandlery(directory.path, mirrorOf(REGISTRY, bad.url, good.url))
  const gets = () => bad.requests.filter(({ method }) => method === 'GET').length
  const asked: number[] = []
  for (const [index, digest] of digests.entries()) {
    const response = await fetch(`${server.url}/v2/team/app/blobs/${digest}?ns=${REGISTRY}`)
    expect(Buffer.from(await response.arrayBuffer()).equals(blobs[index]!)).toBe(true)
    asked.push(gets())
  }
  expect(asked).toEqual([1, 2, 3, 3, 3, 3])
  const told = await (await fetch(`${server.adminUrl}/readyz?verbose`)).text()
  expect(told).toMatch(`${bad.url}/v2: open (${bad.url}/v2: ${bad.host} closed in the middle`)
  expect(told).toContain(`${good.url}/v2: ok\n`)
})

test.concurrent('a dead first endpoint costs a whole image one time limit, a later one nothing', async () => {
  await using directory = await temporaryDirectory()
  await using dead = await startRegistry()
  await using good = await startRegistry()
  dead.fault({ stall: 'headers' })
  const images = ['one', 'two'].map((tag) => good.addImage('team/app', tag, { layers: 4 }))
  const config = { ...mirrorOf(REGISTRY, dead.url, good.url), timeouts: { firstByte: '1s' } }
  await using server = await startChandlery(directory.path, config)
  const get = async (path: string) => {
    const response = await fetch(`${server.url}/v2/team/app/${path}?ns=${REGISTRY}`)
    expect(response.status).toBe(200)
    await response.arrayBuffer()
  }
  const pull = async (index: number) => {
    const startedAt = Date.now()
    await get(`manifests/${['one', 'two'][index]}`)
    await Promise.all(images[index]!.blobs.map(async ({ digest }) => await get(`blobs/${digest}`)))
    return Date.now() - startedAt
  }
  const first = await pull(0)
  // undici looks at its limits once a second.
  expect(first).toBeGreaterThan(900)
  expect(first).toBeLessThan(5000)
  await pull(1)
  expect(dead.requests.filter(({ kind }) => kind !== 'ping')).toHaveLength(1)
})

test.concurrent('time limits of the configuration hold, those of one host before those of all', async () => {
  await using directory = await temporaryDirectory()
  await using quick = await startRegistry()
  await using slow = await startRegistry()
  for (const registry of [quick, slow]) {
    registry.addImage('team/app', 'latest')
    registry.fault({ delayMs: 2500 })
  }
  const config = {
    defaultEndpoints: false,
    mirrors: { 'quick.test': { endpoint: [quick.url] }, 'slow.test': { endpoint: [slow.url] } },
    timeouts: { firstByte: '100ms' },
    configs: { [slow.host]: { timeouts: { firstByte: '20s' } } },
  }
  await using server = await startChandlery(directory.path, config)
  const statuses = ['quick.test', 'slow.test'].map(async (ns) => {
    return (await fetch(`${server.url}/v2/team/app/manifests/latest?ns=${ns}`)).status
  })
  expect(await Promise.all(statuses)).toEqual([504, 200])
})

test('health.probe finds out that an endpoint is down before anybody asks, and that it is back', async () => {
  await using directory = await temporaryDirectory()
  await using registry = await startRegistry()
  const fault = registry.fault({ status: 503 })
  const config = { ...mirrorOf(REGISTRY, registry.url), health: { probe: '1s' } }
  await using server = await startChandlery(directory.path, config)
  const told = async () => await (await fetch(`${server.adminUrl}/readyz?verbose`)).text()
  const poll = { timeout: 8000, interval: 100 }
  await expect.poll(told, poll).toContain(`${registry.url}/v2: open`)
  fault.remove()
  registry.addImage('team/app', 'latest')
  await expect
    .poll(async () => {
      const url = `${server.url}/v2/team/app/manifests/latest?ns=${REGISTRY}`
      return (await fetch(url)).status
    }, poll)
    .toBe(200)
  await expect.poll(told, poll).toContain(`${registry.url}/v2: ok`)
}, 20_000)

/** A server in front of [mirror, registry], and how to ask it for manifests. */
async function mirrored(directory: string, mirror: TestRegistry, registry: TestRegistry) {
  const server = await startChandlery(directory, mirrorOf(REGISTRY, mirror.url, registry.url))
  const pull = async (tag: string) => {
    const response = await fetch(`${server.url}/v2/team/app/manifests/${tag}?ns=${REGISTRY}`)
    await response.arrayBuffer()
    return response.status
  }
  let pulled = 0
  const pullFromMirror = async () => {
    const tag = `mirrored-${pulled++}`
    mirror.addImage('team/app', tag)
    expect(await pull(tag)).toBe(200)
  }
  const readiness = async () => await (await fetch(`${server.adminUrl}/readyz?verbose`)).text()
  const dispose = () => server[Symbol.asyncDispose]()
  return { server, pull, pullFromMirror, readiness, [Symbol.asyncDispose]: dispose }
}

const pings = ({ requests }: TestRegistry) => requests.filter(({ kind }) => kind === 'ping').length

/** The changes of its state that are logged where people see them. */
function toldOf({ log }: RunningChandlery, { url }: TestRegistry): string[] {
  const told = log.filter(({ endpoint, state }) => endpoint === `${url}/v2` && state !== undefined)
  return told.map(({ former, state }) => `${String(former)} -> ${String(state)}`)
}

test('a registry that works again serves what only it has, however much the mirror before it served in the meantime', async () => {
  await using directory = await temporaryDirectory()
  await using mirror = await startRegistry()
  await using registry = await startRegistry()
  await using x = await mirrored(directory.path, mirror, registry)
  const fault = registry.fault({ status: 503 })
  for (const tag of ['a', 'b', 'c']) expect(await x.pull(tag)).toBe(502)
  expect(await x.readiness()).toContain(`${registry.url}/v2: open`)
  fault.remove()
  await expect
    .poll(async () => {
      await x.pullFromMirror()
      return pings(registry)
    })
    .toBeGreaterThan(0)
  for (let times = 0; times < 3; times++) await x.pullFromMirror()
  expect(toldOf(x.server, registry)).toEqual(['ok -> open', 'open -> ok'])
  registry.addImage('team/app', 'only-here')
  expect(await x.pull('only-here')).toBe(200)
  expect(await x.readiness()).toContain(`${registry.url}/v2: ok\n`)
})

test('a registry that answers probes but no requests is logged as failing each time it is tried in vain', async () => {
  await using directory = await temporaryDirectory()
  await using mirror = await startRegistry()
  await using registry = await startRegistry()
  await using x = await mirrored(directory.path, mirror, registry)
  registry.fault({ match: { kind: 'manifest' }, status: 503 })
  for (const tag of ['a', 'b', 'c']) expect(await x.pull(tag)).toBe(502)
  await expect
    .poll(async () => {
      await x.pull('d')
      return toldOf(x.server, registry)
    })
    .toEqual(['ok -> open', 'open -> ok', 'ok -> open'])
  expect(await x.readiness()).toContain(`${registry.url}/v2: open (`)
})

test('a standby that works again is shown as ok without any request to it', async () => {
  await using directory = await temporaryDirectory()
  await using mirror = await startRegistry()
  await using standby = await startRegistry()
  const fault = standby.fault({ status: 503 })
  const endpoints = mirrorOf(REGISTRY, mirror.url, standby.url)
  const config = { ...endpoints, health: { probe: '1s' } }
  await using server = await startChandlery(directory.path, config)
  const readiness = async () => await (await fetch(`${server.adminUrl}/readyz?verbose`)).text()
  await expect.poll(readiness).toContain(`${standby.url}/v2: open`)
  fault.remove()
  await expect.poll(readiness).toContain(`${standby.url}/v2: ok\n`)
  const metrics = await (await fetch(`${server.adminUrl}/metrics`)).text()
  const labels = `endpoint="${standby.url}/v2",state="ok"`
  expect(metrics).toContain(`chandlery_upstream_endpoint_state{${labels}} 1\n`)
  expect(standby.requests.every(({ kind }) => kind === 'ping')).toBe(true)
}, 20_000)

test('the requests left are reported by credential, without saying whose it is', async () => {
  await using directory = await temporaryDirectory()
  await using registry = await startRegistry()
  registry.addImage('team/app', 'latest')
  const headers = {
    'ratelimit-limit': '100;w=60',
    'ratelimit-remaining': '42;w=60',
    'docker-ratelimit-source': '192.0.2.7',
  }
  registry.fault({ headers })
  await using server = await startChandlery(directory.path, mirrorOf(REGISTRY, registry.url))
  await fetch(`${server.url}/v2/team/app/manifests/latest?ns=${REGISTRY}`)
  const metrics = await (await fetch(`${server.adminUrl}/metrics`)).text()
  const labels = `endpoint="${registry.url}/v2",credential="anonymous"`
  expect(metrics).toContain(`chandlery_upstream_ratelimit_limit{${labels}} 100\n`)
  expect(metrics).toContain(`chandlery_upstream_ratelimit_remaining{${labels}} 42\n`)
  const told = await (await fetch(`${server.adminUrl}/readyz?verbose`)).text()
  expect(told).toContain('/v2: 42 of 100 requests left (anonymous, counted by 192.0.2.7)\n')
})

test('a proxy of the configuration is used, and its password is nowhere', async () => {
  await using directory = await temporaryDirectory()
  await using registry = await startRegistry()
  registry.addImage('team/app', 'latest')
  const user = { username: 'bot', password: 'hunter2' }
  await using proxy = await startHttpProxy({ user, leads: { 'mirror.test': registry.host } })
  const configOf = (password: string) => ({
    ...mirrorOf(REGISTRY, 'http://mirror.test'),
    configs: { 'mirror.test': { proxy: `http://bot:${password}@127.0.0.1:${proxy.port}` } },
  })
  const url = `/v2/team/app/manifests/latest?ns=${REGISTRY}`
  for (const [password, status] of [
    ['wrongpass', 503],
    ['hunter2', 200],
  ] as const) {
    await using server = await startChandlery(directory.path, configOf(password))
    const response = await fetch(server.url + url)
    expect(response.status).toBe(status)
    const told =
      (await (await fetch(`${server.adminUrl}/readyz?verbose`)).text()) + (await response.text())
    expect(told + JSON.stringify(server.log)).not.toMatch(/hunter2|wrongpass/)
  }
})
