// Run as a process of its own with a low limit of open files: a Chandlery in front of the two
// endpoints that are its arguments, asked for things before, while and after every file descriptor
// is in use. Prints what came of it as JSON.
import { closeSync, openSync } from 'node:fs'
import { Agent, get } from 'node:http'
import { devNull } from 'node:os'
import { mirrorOf, startChandlery } from './chandlery.ts'

const [directory = '', first = '', second = '', blob = ''] = process.argv.slice(2)
const REGISTRY = 'registry.test'

const config = { ...mirrorOf(REGISTRY, first, second), freshness: { ttl: '0s' } }
await using chandlery = await startChandlery(directory, config)
/** Connections that are open before the descriptors run out. */
using agents = new DisposableStack()
const agentFor = (url: string) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  agents.defer(() => agent.destroy())
  return { url, agent }
}
const api = agentFor(chandlery.url)
const admin = agentFor(chandlery.adminUrl)

async function ask({ url, agent }: typeof api, path: string) {
  const { promise, resolve, reject } = Promise.withResolvers<{
    status: number | undefined
    cache: string | undefined
    retryAfter: string | undefined
    text: string
  }>()
  get(`${url}${path}`, { agent }, (response) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('end', () => {
      const text = Buffer.concat(chunks).toString('latin1')
      const { statusCode: status, headers } = response
      const cache = headers['cache-status']?.toString()
      resolve({ status, cache, retryAfter: headers['retry-after'], text })
    })
  }).on('error', reject)
  return await promise
}

const askFor = (path: string) => ask(api, `/v2/team/app/${path}?ns=${REGISTRY}`)
const metrics = async () => (await ask(admin, '/metrics')).text

function takeAll(): number[] {
  const taken: number[] = []
  for (;;) {
    try {
      taken.push(openSync(devNull, 'r'))
    } catch {
      return taken
    }
  }
}

const before = await askFor('manifests/held')
await metrics()
const taken = takeAll()
const held = await askFor('manifests/held')
const cold = await askFor('manifests/cold')
const coldBlob = await askFor(`blobs/${blob}`)
for (const descriptor of taken) closeSync(descriptor)
const text = await metrics()
const after = await askFor('manifests/cold')
const afterBlob = await askFor(`blobs/${blob}`)
const { log } = chandlery
process.stdout.write(
  JSON.stringify({ before, held, cold, coldBlob, after, afterBlob, metrics: text, log }),
)
