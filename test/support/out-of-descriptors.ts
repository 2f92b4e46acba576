// Runs in a child process, started by fork(): a Chandlery in front of the two endpoints in its
// arguments. It requests content before, during and after a time without free file descriptors; the
// parent sets the limit. It sends the results to the parent.
import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { mirrorOf, startChandlery } from './chandlery.ts'

const [directory = '', first = '', second = '', blob = ''] = process.argv.slice(2)
const REGISTRY = 'registry.test'

export interface Answer {
  readonly status: number | undefined
  readonly cache: string | undefined
  readonly retryAfter: string | undefined
  readonly text: string
}

/** A message to the parent. */
export type Message =
  /** The limit that the parent is to set. The process goes on after any message. */
  | { readonly descriptors: 'none' | 'enough' }
  | {
      readonly answers: Record<'before' | 'held' | 'cold' | 'blob' | 'after' | 'blobAfter', Answer>
      readonly metrics: string
      readonly log: readonly Record<string, unknown>[]
    }

async function tell(message: Message): Promise<void> {
  process.send?.(message)
  if ('descriptors' in message) await once(process, 'message')
}

const config = { ...mirrorOf(REGISTRY, first, second), freshness: { ttl: '0s' } }
await using chandlery = await startChandlery(directory, config)
// Each keeps one connection: under the limit no more can be opened.
const api = { url: chandlery.url, agent: new Agent({ keepAlive: true, maxSockets: 1 }) }
const admin = { url: chandlery.adminUrl, agent: new Agent({ keepAlive: true, maxSockets: 1 }) }

async function ask({ url, agent }: typeof api, path: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
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

const before = await askFor('manifests/held')
await ask(admin, '/metrics')
await tell({ descriptors: 'none' })
const held = await askFor('manifests/held')
const cold = await askFor('manifests/cold')
const coldBlob = await askFor(`blobs/${blob}`)
await tell({ descriptors: 'enough' })
const { text: metrics } = await ask(admin, '/metrics')
const after = await askFor('manifests/cold')
const blobAfter = await askFor(`blobs/${blob}`)
api.agent.destroy()
admin.agent.destroy()
const answers = { before, held, cold, blob: coldBlob, after, blobAfter }
await tell({ answers, metrics, log: chandlery.log })
