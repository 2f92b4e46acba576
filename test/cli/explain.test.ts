import { describe, expect, test } from 'vitest'
import {
  explain,
  type ExplainDeps,
  type ExplainStore,
  type HostSummary,
} from '../../src/cli/explain.ts'
import { printExplanation } from '../../src/cli/print-explanation.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from '../../src/oci/media-types.ts'
import { OciError } from '../../src/oci/errors.ts'
import type { Endpoint } from '../../src/upstream/routing/endpoint.ts'
import { Registries } from '../../src/upstream/routing/registries.ts'
import { mirrorFrom } from '../support/mirrors.ts'

const NOW = 1_800_000_000_000

const registries = new Registries({
  defaultRegistry: 'docker.io',
  defaultEndpoints: true,
  mirrors: [
    mirrorFrom('docker.io', {
      endpoint: ['https://mirror.example.com', 'http://10.0.0.1:5000/v2/proxy'],
      rewrite: { '^library/': 'UPPER/', '^library/(.+)$': 'team/$1' },
    }),
    mirrorFrom('ghcr.io'),
  ],
})

function deps(more: Partial<ExplainDeps> = {}): ExplainDeps {
  return {
    registries,
    defaultRegistry: 'docker.io',
    host: () => ({}),
    freshness: () => ({ ttlMs: 60_000 }),
    now: NOW,
    ...more,
  }
}

function print(explanation: Awaited<ReturnType<typeof explain>>, json = false): string {
  let text = ''
  printExplanation(explanation, { json, write: (each) => (text += each) })
  return text
}

const config = digestOf(Buffer.from('config'))
const layer = digestOf(Buffer.from('layer'))
const image = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: config, size: 6 },
    layers: [layer, layer].map((digest) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest,
      size: 5,
    })),
  }),
)
const other = `sha256:${'0'.repeat(64)}` as const
const index = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: [digestOf(image), other].map((digest) => ({
      mediaType: OCI_MANIFEST,
      digest,
      size: 1,
    })),
  }),
)

function store(checkedAt = NOW - 30_000): ExplainStore {
  const manifests = new Map<Digest, Buffer>([image, index].map((bytes) => [digestOf(bytes), bytes]))
  return {
    async tag(repository, tag) {
      if (repository.name !== 'library/alpine' || tag !== 'latest') return undefined
      return { digest: digestOf(index), checkedAt }
    },
    async manifest(_, digest) {
      const bytes = manifests.get(digest)
      return bytes && { bytes }
    },
    async blob(_, digest) {
      return digest === config ? { size: 6 } : undefined
    },
  }
}

describe('explain', () => {
  test('names each endpoint in order, with the rule, the name, the scope and the URL', async () => {
    const { endpoints, ...about } = await explain('alpine', deps())
    expect(about).toEqual({
      image: 'alpine',
      registry: 'docker.io',
      repository: 'library/alpine',
      tag: 'latest',
      freshness: { ttlMs: 60_000 },
    })
    const rule = { pattern: '^library/(.+)$', replacement: 'team/$1' }
    const passedOver = [{ pattern: '^library/', replacement: 'UPPER/', result: 'UPPER/alpine' }]
    expect(endpoints).toEqual([
      {
        endpoint: 'https://mirror.example.com/v2',
        own: false,
        rule,
        passedOver,
        name: 'team/alpine',
        scope: 'repository:team/alpine:pull',
        url: 'https://mirror.example.com/v2/team/alpine/manifests/latest',
      },
      {
        endpoint: 'http://10.0.0.1:5000/v2/proxy',
        own: false,
        rule,
        passedOver,
        name: 'team/alpine',
        scope: 'repository:proxy/team/alpine:pull',
        url: 'http://10.0.0.1:5000/v2/proxy/team/alpine/manifests/latest',
      },
      {
        endpoint: 'https://registry-1.docker.io/v2',
        own: true,
        passedOver: [],
        name: 'library/alpine',
        scope: 'repository:library/alpine:pull',
        url: 'https://registry-1.docker.io/v2/library/alpine/manifests/latest',
      },
    ])
  })

  test('asks for the host of each endpoint', async () => {
    const hosts: string[] = []
    const host = ({ host: name }: Endpoint) => {
      hosts.push(name)
      return { resolve: [name] }
    }
    const { endpoints } = await explain('alpine', deps({ host }))
    expect(hosts).toEqual(['mirror.example.com', '10.0.0.1:5000', 'registry-1.docker.io'])
    expect(endpoints.map(({ resolve }) => resolve)).toEqual(hosts.map((name) => [name]))
  })

  test('prefers a digest to a tag, and says that it never goes stale', async () => {
    const explained = await explain(`ghcr.io/a/b:1@${layer}`, deps())
    expect(explained).toMatchObject({ registry: 'ghcr.io', repository: 'a/b', digest: layer })
    expect(explained).not.toHaveProperty('tag')
    expect(explained).not.toHaveProperty('freshness')
    expect(explained.endpoints[0]?.url).toBe(`https://ghcr.io/v2/a/b/manifests/${layer}`)
    expect(explained.endpoints[0]?.passedOver).toEqual([])
  })

  test('asks for the freshness of the canonical name', async () => {
    const asked: string[] = []
    const freshness: ExplainDeps['freshness'] = ({ registry, name }, tag) => {
      asked.push(`${registry}/${name}:${tag}`)
      return { ttlMs: 1, rule: '**' }
    }
    await explain('index.docker.io/alpine:3', deps({ freshness }))
    expect(new Set(asked)).toEqual(new Set(['docker.io/library/alpine:3']))
  })

  test('refuses a registry that is not served as a client would be refused', async () => {
    await expect(explain('quay.io/a/b', deps())).rejects.toThrow('registry "quay.io" is not served')
    await expect(explain('A/b', deps())).rejects.toThrow(OciError)
    await expect(explain('a:b:c', deps())).rejects.toThrow(OciError)
  })
})

describe('explain, about what is held,', () => {
  test('names a tag, its index, and how many of its manifests are held', async () => {
    const { held } = await explain('alpine', deps({ store: store() }))
    expect(held).toEqual({
      tag: { digest: digestOf(index), ageMs: 30_000, fresh: true },
      manifest: { digest: digestOf(index), mediaType: OCI_INDEX, size: index.length },
      parts: { of: 'manifests', held: 1, named: 2 },
    })
  })

  test('names an image by digest, and how many of its blobs are held, each counted once', async () => {
    const { held } = await explain(`alpine@${digestOf(image)}`, deps({ store: store() }))
    expect(held).toEqual({
      manifest: { digest: digestOf(image), mediaType: OCI_MANIFEST, size: image.length },
      parts: { of: 'blobs', held: 1, named: 2 },
    })
  })

  test('says that a tag is expired after its ttl, and when the clock went back', async () => {
    const expired = await explain('alpine', deps({ store: store(NOW - 60_000) }))
    expect(expired.held?.tag?.fresh).toBe(false)
    const future = await explain('alpine', deps({ store: store(NOW + 1) }))
    expect(future.held?.tag).toMatchObject({ ageMs: -1, fresh: false })
  })

  test('says when there is nothing', async () => {
    expect((await explain('nginx', deps({ store: store() }))).held).toEqual({})
    expect(await explain('nginx', deps())).not.toHaveProperty('held')
  })

  test('names bytes that are not a manifest as they were kept', async () => {
    const broken: ExplainStore = {
      ...store(),
      manifest: async () => ({ bytes: Buffer.from('x'), mediaType: DOCKER_MANIFEST }),
    }
    const { held } = await explain(`alpine@${other}`, deps({ store: broken }))
    expect(held).toEqual({ manifest: { digest: other, mediaType: DOCKER_MANIFEST, size: 1 } })
  })
})

const configuredHost: ExplainDeps['host'] = ({ host: name }) => {
  if (name === 'mirror.example.com') {
    const from = 'configs."mirror.example.com"'
    return {
      credentials: { from, all: [{ kind: 'password', username: 'bot' }] },
      tls: { from, caFile: '/etc/ca.pem', insecureSkipVerify: true },
      proxy: { url: 'http://<redacted>@proxy.test:3128', from },
      resolve: ['203.0.113.7', '203.0.113.8'],
      timeouts: { from, connectMs: 3000, stallMs: 60_000 },
    }
  }
  if (name !== '10.0.0.1:5000') return {}
  return { tls: { from: 'configs."*"' }, proxy: { url: 'direct', from: 'NO_PROXY' } }
}

describe('a printed explanation', () => {
  test('is text', async () => {
    const options: Partial<ExplainDeps> = {
      host: configuredHost,
      freshness: () => ({ ttlMs: 30_000, rule: 'docker.io/library/*:latest' }),
    }
    const text = print(await explain('alpine', deps({ ...options, store: store() })))
    expect(text).toBe(`registry     docker.io
repository   library/alpine
tag          latest
freshness    30s, from rule "docker.io/library/*:latest"

1. https://mirror.example.com/v2
   skipped      "^library/" → "UPPER/": "UPPER/alpine" is not a repository name
   rewrite      "^library/(.+)$" → "team/$1"
   name         team/alpine
   scope        repository:team/alpine:pull
   url          https://mirror.example.com/v2/team/alpine/manifests/latest
   credentials  password of "bot" (configs."mirror.example.com")
   tls          certificates are not checked, ca_file "/etc/ca.pem" (configs."mirror.example.com")
   proxy        http://<redacted>@proxy.test:3128 (configs."mirror.example.com")
   addresses    203.0.113.7, 203.0.113.8
   timeouts     connect 3s, stall 1m (configs."mirror.example.com")

2. http://10.0.0.1:5000/v2/proxy
   skipped      "^library/" → "UPPER/": "UPPER/alpine" is not a repository name
   rewrite      "^library/(.+)$" → "team/$1"
   name         team/alpine
   scope        repository:proxy/team/alpine:pull
   url          http://10.0.0.1:5000/v2/proxy/team/alpine/manifests/latest
   credentials  none (anonymous)
   tls          none: plain HTTP; configs."*" is not used
   proxy        none (NO_PROXY)

3. https://registry-1.docker.io/v2
   rewrite      none: this is the registry's own endpoint
   name         library/alpine
   scope        repository:library/alpine:pull
   url          https://registry-1.docker.io/v2/library/alpine/manifests/latest
   credentials  none (anonymous)
   tls          the system's CAs
   proxy        none

held
   tag          ${digestOf(index)}, checked 30s ago, expired
   manifest     ${index.length} bytes of ${OCI_INDEX}
   parts        1 of 2 manifests
`)
  })

  test('says of a digest that nothing is held', async () => {
    const text = print(await explain(`ghcr.io/a@${layer}`, deps({ store: store() })))
    expect(text).toContain(`digest       ${layer}\nfreshness    a digest never goes stale\n`)
    expect(text).toMatch(/held\n {3}manifest {5}none\n$/)
  })

  test('is the explanation itself as JSON', async () => {
    const explained = await explain('alpine', deps({ host: configuredHost, store: store() }))
    expect(JSON.parse(print(explained, true))).toEqual(explained)
  })

  test('does not let the content of a file control the terminal', async () => {
    const from = 'configs."*"'
    const username = 'a\u001b[2J\u009b31m\n'
    const hostile = (): HostSummary => ({
      credentials: {
        from,
        all: [
          { kind: 'credential helper', program: username },
          { kind: 'password', username },
        ],
      },
    })
    const text = print(await explain('alpine', deps({ host: hostile })))
    expect(text).toContain(String.raw`"a\u001b[2J\u009b31m\n"`)
    expect(text).not.toMatch(/[^\n\P{Cc}]/u)
  })
})
