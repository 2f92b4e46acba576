// What a whole server tells of its endpoints: /readyz?verbose, /metrics and the log.
import { expect, test } from 'vitest'
import { mirrorOf } from './support/chandlery.ts'
import { REGISTRY } from './support/client.ts'
import { startHttpProxy } from './support/proxy-server.ts'
import type { TestRegistry } from './support/registry.ts'
import { until } from './support/until.ts'
import { createWorld, type World, type Written } from './support/world.ts'

/** A server in front of two endpoints, the second of which helps out. */
function createWorldOfTwo(config: Written = {}): Promise<World> {
  return createWorld({ upstreams: [{}, {}], config })
}

async function readiness({ client }: World): Promise<string> {
  return (await client.admin('/readyz?verbose')).text
}

function endpointState({ client }: World, { url }: TestRegistry, state: string): Promise<number> {
  return client.metric(`chandlery_upstream_endpoint_state{endpoint="${url}/v2",state="${state}"}`)
}

async function pull({ client }: World, tag: string): Promise<number> {
  return (await client.manifest(tag)).status
}

test('an endpoint that is down is logged once, and shown elsewhere as long as it is down', async () => {
  await using world = await createWorldOfTwo()
  const { upstream: bad, other: good, client, server } = world
  await bad.close()
  for (const tag of ['a', 'b', 'c', 'd']) good.addImage('team/app', tag)
  expect(await readiness(world)).toContain(`${bad.url}/v2: ok\n`)
  for (const tag of ['a', 'b', 'c', 'd']) expect(await pull(world, tag)).toBe(200)
  expect(await readiness(world)).toMatch(`${bad.url}/v2: open (${bad.url}/v2: `)
  expect((await client.admin('/readyz')).text).toBe('ready\n')
  expect(await endpointState(world, bad, 'open')).toBe(1)
  expect(await endpointState(world, bad, 'ok')).toBe(0)
  const lines = server.log.filter(({ msg }) => String(msg).includes('is now tried last'))
  expect(lines).toMatchObject([{ endpoint: `${bad.url}/v2`, state: 'open', former: 'ok' }])
})

test('an endpoint that breaks off every blob is left for the others, and reported', async () => {
  await using world = await createWorldOfTwo()
  const { upstream: bad, other: good, client } = world
  bad.fault({ match: { kind: 'blob', method: 'GET' }, cutAfter: 50_000 })
  const blobs = Array.from({ length: 6 }, (_, index) => Buffer.alloc(400_000, index))
  const digests = blobs.map((blob) => [bad, good].map((each) => each.addBlob(blob).digest)[0]!)
  const gets = () => bad.requests.filter(({ method }) => method === 'GET').length
  const asked: number[] = []
  for (const [index, digest] of digests.entries()) {
    expect((await client.blob(digest)).bytes.equals(blobs[index]!)).toBe(true)
    asked.push(gets())
  }
  expect(asked).toEqual([1, 2, 3, 3, 3, 3])
  const told = await readiness(world)
  expect(told).toMatch(`${bad.url}/v2: open (${bad.url}/v2: ${bad.host} closed in the middle`)
  expect(told).toContain(`${good.url}/v2: ok\n`)
})

test.concurrent('a dead first endpoint costs a whole image one time limit, a later one nothing', async () => {
  await using world = await createWorldOfTwo({ timeouts: { firstByte: '1s' } })
  const { upstream: dead, other: good, client } = world
  dead.fault({ stall: 'headers' })
  const images = ['one', 'two'].map((tag) => good.addImage('team/app', tag, { layers: 4 }))
  const pullWhole = async (index: number) => {
    const startedAt = Date.now()
    expect(await pull(world, ['one', 'two'][index]!)).toBe(200)
    const blobs = images[index]!.blobs.map(async ({ digest }) => await client.blob(digest))
    for (const { status } of await Promise.all(blobs)) expect(status).toBe(200)
    return Date.now() - startedAt
  }
  const first = await pullWhole(0)
  // undici looks at its limits once a second.
  expect(first).toBeGreaterThan(900)
  expect(first).toBeLessThan(5000)
  await pullWhole(1)
  expect(dead.requests.filter(({ kind }) => kind !== 'ping')).toHaveLength(1)
})

test.concurrent('time limits of the configuration hold, those of one host before those of all', async () => {
  await using world = await createWorld({
    upstreams: [{}, {}],
    config: ([quick, slow]) => ({
      mirrors: { 'quick.test': { endpoint: [quick!.url] }, 'slow.test': { endpoint: [slow!.url] } },
      timeouts: { firstByte: '100ms' },
      configs: { [slow!.host]: { timeouts: { firstByte: '20s' } } },
    }),
  })
  for (const registry of world.upstreams) {
    registry.addImage('team/app', 'latest')
    registry.fault({ delayMs: 2500 })
  }
  const answers = ['quick.test', 'slow.test'].map((registry) => {
    return world.client.manifest('latest', { registry })
  })
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([504, 200])
})

test.concurrent('health.probe finds out that an endpoint is down before anybody asks, and that it is back', async () => {
  await using world = await createWorld({ config: { health: { probe: '1s' } } })
  const { upstream } = world
  const fault = upstream.fault({ status: 503 })
  await until(async () => (await readiness(world)).includes(`${upstream.url}/v2: open`))
  fault.remove()
  upstream.addImage('team/app', 'latest')
  await until(async () => (await pull(world, 'latest')) === 200)
  await until(async () => (await readiness(world)).includes(`${upstream.url}/v2: ok`))
})

test.concurrent('a standby that works again is shown as ok without any request to it', async () => {
  await using world = await createWorldOfTwo({ health: { probe: '1s' } })
  const { other: standby } = world
  const fault = standby.fault({ status: 503 })
  await until(async () => (await readiness(world)).includes(`${standby.url}/v2: open`))
  fault.remove()
  await until(async () => (await readiness(world)).includes(`${standby.url}/v2: ok\n`))
  expect(await endpointState(world, standby, 'ok')).toBe(1)
  expect(standby.requests.every(({ kind }) => kind === 'ping')).toBe(true)
})

/** Pulls something new, which the mirror has. */
async function pullFromMirror(world: World): Promise<void> {
  const tag = `mirrored-${world.upstream.requests.length}`
  world.upstream.addImage('team/app', tag)
  expect(await pull(world, tag)).toBe(200)
}

const pings = ({ requests }: TestRegistry) => requests.filter(({ kind }) => kind === 'ping').length

/** The changes of its state that are logged where people see them. */
function loggedStates({ server }: World, { url }: TestRegistry): string[] {
  const lines = server.log.filter(
    ({ endpoint, state }) => endpoint === `${url}/v2` && state !== undefined,
  )
  return lines.map(({ former, state }) => `${String(former)} -> ${String(state)}`)
}

test('a registry that works again serves what only it has, however much the mirror before it served in the meantime', async () => {
  await using world = await createWorldOfTwo()
  const { other: registry } = world
  const fault = registry.fault({ status: 503 })
  for (const tag of ['a', 'b', 'c']) expect(await pull(world, tag)).toBe(502)
  expect(await readiness(world)).toContain(`${registry.url}/v2: open`)
  fault.remove()
  await expect
    .poll(async () => {
      await pullFromMirror(world)
      return pings(registry)
    })
    .toBeGreaterThan(0)
  for (let times = 0; times < 3; times++) await pullFromMirror(world)
  expect(loggedStates(world, registry)).toEqual(['ok -> open', 'open -> ok'])
  registry.addImage('team/app', 'only-here')
  expect(await pull(world, 'only-here')).toBe(200)
  expect(await readiness(world)).toContain(`${registry.url}/v2: ok\n`)
})

test('a registry that answers probes but no requests is logged as failing each time it is tried in vain', async () => {
  await using world = await createWorldOfTwo()
  const { other: registry } = world
  registry.fault({ match: { kind: 'manifest' }, status: 503 })
  for (const tag of ['a', 'b', 'c']) expect(await pull(world, tag)).toBe(502)
  await expect
    .poll(async () => {
      await pull(world, 'd')
      return loggedStates(world, registry)
    })
    .toEqual(['ok -> open', 'open -> ok', 'ok -> open'])
  expect(await readiness(world)).toContain(`${registry.url}/v2: open (`)
})

test('the requests left are reported by credential, without saying whose it is', async () => {
  await using world = await createWorld()
  const { upstream, client } = world
  upstream.addImage('team/app', 'latest')
  const headers = {
    'ratelimit-limit': '100;w=60',
    'ratelimit-remaining': '42;w=60',
    'docker-ratelimit-source': '192.0.2.7',
  }
  upstream.fault({ headers })
  await pull(world, 'latest')
  const labels = `endpoint="${upstream.url}/v2",credential="anonymous"`
  expect(await client.metric(`chandlery_upstream_ratelimit_limit{${labels}}`)).toBe(100)
  expect(await client.metric(`chandlery_upstream_ratelimit_remaining{${labels}}`)).toBe(42)
  const left = '/v2: 42 of 100 requests left (anonymous, counted by 192.0.2.7)\n'
  expect(await readiness(world)).toContain(left)
})

test('a proxy of the configuration is used, and its password is nowhere', async () => {
  await using world = await createWorld({ started: false })
  const { upstream, client } = world
  upstream.addImage('team/app', 'latest')
  const user = { username: 'bot', password: 'hunter2' }
  await using proxy = await startHttpProxy({ user, leads: { 'mirror.test': upstream.host } })
  const configOf = (password: string) => ({
    ...mirrorOf(REGISTRY, 'http://mirror.test'),
    configs: { 'mirror.test': { proxy: `http://bot:${password}@127.0.0.1:${proxy.port}` } },
  })
  for (const [password, status] of [
    ['wrongpass', 503],
    ['hunter2', 200],
  ] as const) {
    await using server = await world.start(configOf(password))
    const answer = await client.manifest('latest')
    expect(answer.status).toBe(status)
    const told = (await readiness(world)) + answer.text + JSON.stringify(server.log)
    expect(told).not.toMatch(/hunter2|wrongpass/)
  }
})
