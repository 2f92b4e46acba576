import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { OciError } from '../../../src/oci/errors.ts'
import { isRegistry, isRepositoryName } from '../../../src/oci/reference.ts'
import { parseTarget } from '../../../src/oci/target.ts'
import { EndpointError } from '../../../src/upstream/routing/endpoint.ts'
import {
  type MirrorOptions,
  Registries,
  type RegistriesOptions,
  type RequestNaming,
  type Routed,
} from '../../../src/upstream/routing/registries.ts'
import { mirrorFrom } from '../../support/mirrors.ts'

function registries(
  mirrors: readonly MirrorOptions[],
  more: Partial<RegistriesOptions> = {},
): Registries {
  return new Registries({ defaultRegistry: 'docker.io', defaultEndpoints: true, mirrors, ...more })
}

function route(of: Registries, path: string, naming: RequestNaming = {}): Routed {
  const target = parseTarget(path)
  if (target === undefined) throw new Error(`no target: ${path}`)
  return of.route(target, naming)
}

/** `registry/name`, or the code of the error. */
function outcome(of: Registries, path: string, naming: RequestNaming = {}): string {
  try {
    const { registry, repository } = route(of, path, naming)
    expect(repository?.registry ?? registry).toBe(registry)
    return repository === undefined ? registry : `${registry}/${repository.name}`
  } catch (error) {
    if (error instanceof OciError) return error.code
    throw error
  }
}

const usual = [
  mirrorFrom('docker.io', { hosts: ['hub.cache.internal'] }),
  mirrorFrom('ghcr.io', { hosts: ['ghcr.cache.internal:8443'] }),
  mirrorFrom('registry.k8s.io'),
  mirrorFrom('localhost:5001'),
  mirrorFrom('[2001:db8::1]:5000'),
]
const hub = registries(usual)
const harbor = registries([...usual, mirrorFrom('harbor.example.com')], {
  defaultRegistry: 'harbor.example.com',
})
const open = registries([...usual, mirrorFrom('*')])

const D = `sha256:${'a'.repeat(64)}`

describe('a request is routed by client, addressing and ns', () => {
  const alpine = 'docker.io/library/alpine'
  type Row = [who: string, path: string, ns: string | undefined, host: string, outcome: string]
  const rows: Row[] = [
    // containerd hosts.toml: http://cache:5000, /v2 appended, ns always
    ['containerd', `/v2/library/alpine/manifests/latest`, 'docker.io', 'cache:5000', alpine],
    ['containerd', `/v2/library/alpine/blobs/${D}`, 'docker.io', 'cache:5000', alpine],
    ['containerd', `/v2/pause/manifests/3.9`, 'registry.k8s.io', 'cache', 'registry.k8s.io/pause'],
    ['containerd', `/v2/a/b/c/d/manifests/1`, 'ghcr.io', 'cache', 'ghcr.io/a/b/c/d'],
    [
      'containerd, registry with a port',
      `/v2/x/manifests/1`,
      'localhost:5001',
      'cache',
      'localhost:5001/x',
    ],
    ['containerd, registry not listed', `/v2/x/manifests/1`, 'quay.io', 'cache', 'NAME_UNKNOWN'],
    // containerd hosts.toml with a path: http://cache:5000/docker.io → /docker.io/v2
    [
      'containerd, path',
      `/docker.io/v2/library/alpine/manifests/latest`,
      'docker.io',
      'cache',
      alpine,
    ],
    [
      'containerd, path, old without ns',
      `/docker.io/v2/library/alpine/manifests/latest`,
      undefined,
      'cache',
      alpine,
    ],
    [
      'containerd, path of another registry',
      `/ghcr.io/v2/library/alpine/manifests/latest`,
      'docker.io',
      'cache',
      alpine,
    ],
    // containerd hosts.toml with override_path: http://cache:5000/v2/docker.io
    [
      'containerd, override_path',
      `/v2/docker.io/library/alpine/manifests/latest`,
      'docker.io',
      'cache',
      alpine,
    ],
    [
      'containerd, override_path, no ns',
      `/v2/docker.io/library/alpine/blobs/${D}`,
      undefined,
      'cache',
      alpine,
    ],
    [
      'containerd, override_path, alias',
      `/v2/index.docker.io/library/alpine/manifests/1`,
      'docker.io',
      'cache',
      alpine,
    ],
    [
      'containerd, override_path, alias as ns',
      `/v2/docker.io/library/alpine/manifests/1`,
      'registry-1.docker.io',
      'cache',
      alpine,
    ],
    [
      'containerd, another component stays',
      `/v2/proj/library/alpine/manifests/1`,
      'docker.io',
      'cache',
      'docker.io/proj/library/alpine',
    ],
    [
      'containerd, another registry stays',
      `/v2/ghcr.io/a/b/manifests/1`,
      'docker.io',
      'cache',
      'docker.io/ghcr.io/a/b',
    ],
    // BuildKit mirrors = ["cache:5000/docker.io"] or ["cache:5000/hub"]
    ['BuildKit, plain', `/v2/library/alpine/manifests/latest`, 'docker.io', 'cache:5000', alpine],
    [
      'BuildKit, path',
      `/v2/docker.io/library/alpine/manifests/latest`,
      'docker.io',
      'cache:5000',
      alpine,
    ],
    [
      'BuildKit, other path',
      `/v2/hub/library/alpine/manifests/latest`,
      'docker.io',
      'cache:5000',
      'docker.io/hub/library/alpine',
    ],
    // podman, CRI-O, skopeo: the prefix becomes a location, never ns
    ['podman', `/v2/docker.io/library/alpine/manifests/latest`, undefined, 'cache:5000', alpine],
    [
      'podman, no library',
      `/v2/docker.io/alpine/manifests/latest`,
      undefined,
      'cache:5000',
      alpine,
    ],
    ['skopeo', `/v2/ghcr.io/a/b/blobs/${D}`, undefined, 'cache:5000', 'ghcr.io/a/b'],
    ['skopeo, upper case', `/v2/GHCR.io/a/b/blobs/${D}`, undefined, 'cache:5000', 'ghcr.io/a/b'],
    [
      'skopeo, registry with a port',
      `/v2/localhost:5001/a/manifests/1`,
      undefined,
      'cache',
      'localhost:5001/a',
    ],
    [
      'skopeo, escaped port',
      `/v2/localhost%3A5001/a/manifests/1`,
      undefined,
      'cache',
      'localhost:5001/a',
    ],
    ['skopeo, not listed', `/v2/quay.io/a/b/manifests/1`, undefined, 'cache', 'NAME_UNKNOWN'],
    // dockerd registry-mirrors: docker.io only, no ns; the containerd image store does send it
    ['dockerd', `/v2/library/alpine/manifests/latest`, undefined, 'cache:5000', alpine],
    [
      'dockerd, user image',
      `/v2/grafana/loki/manifests/latest`,
      undefined,
      'cache:5000',
      'docker.io/grafana/loki',
    ],
    [
      'dockerd, mirror with a path',
      `/docker.io/v2/library/alpine/manifests/latest`,
      undefined,
      'cache',
      alpine,
    ],
    [
      'dockerd, containerd store',
      `/v2/library/alpine/manifests/latest`,
      'docker.io',
      'cache',
      alpine,
    ],
    [
      'dockerd, unknown path',
      `/proj/v2/library/alpine/manifests/latest`,
      undefined,
      'cache',
      'NAME_UNKNOWN',
    ],
    [
      'docker pull cache:5000/alpine',
      `/v2/alpine/manifests/latest`,
      undefined,
      'cache:5000',
      alpine,
    ],
    [
      'docker pull cache:5000/ghcr.io/a/b',
      `/v2/ghcr.io/a/b/manifests/latest`,
      undefined,
      'cache:5000',
      'ghcr.io/a/b',
    ],
    // K3s: endpoint http://cache, http://cache/v2/docker.io, and rewrites to docker.io/$1
    ['K3s', `/v2/library/alpine/manifests/latest`, 'docker.io', 'cache', alpine],
    [
      'K3s, endpoint with a path',
      `/v2/docker.io/library/alpine/manifests/latest`,
      'docker.io',
      'cache',
      alpine,
    ],
    ['K3s, rewrite', `/v2/docker.io/library/alpine/blobs/${D}`, 'docker.io', 'cache', alpine],
    [
      'K3s, rewrite for another registry',
      `/v2/registry.k8s.io/pause/manifests/3.9`,
      'registry.k8s.io',
      'cache',
      'registry.k8s.io/pause',
    ],
    [
      'K3s, wharfie without ns',
      `/v2/docker.io/library/alpine/manifests/latest`,
      undefined,
      'cache',
      alpine,
    ],
    // Host header
    ['Host', `/v2/alpine/manifests/latest`, undefined, 'hub.cache.internal', alpine],
    ['Host, any port', `/v2/alpine/manifests/latest`, undefined, 'HUB.cache.internal:5000', alpine],
    [
      'Host, its port',
      `/v2/a/b/manifests/latest`,
      undefined,
      'ghcr.cache.internal:8443',
      'ghcr.io/a/b',
    ],
    [
      'Host, another port',
      `/v2/a/b/manifests/latest`,
      undefined,
      'ghcr.cache.internal',
      'docker.io/a/b',
    ],
    ['Host, but ns', `/v2/a/b/manifests/latest`, 'ghcr.io', 'hub.cache.internal', 'ghcr.io/a/b'],
    [
      'Host, but a prefix',
      `/ghcr.io/v2/a/b/manifests/latest`,
      undefined,
      'hub.cache.internal',
      'ghcr.io/a/b',
    ],
    [
      'Host, but a first component',
      `/v2/ghcr.io/a/b/manifests/latest`,
      undefined,
      'hub.cache.internal',
      'ghcr.io/a/b',
    ],
    ['Host of no mirror', `/v2/a/b/manifests/latest`, undefined, 'other.internal', 'docker.io/a/b'],
    [
      'IPv6 registry',
      `/v2/[2001:db8::1]:5000/a/manifests/latest`,
      undefined,
      '[::1]:5000',
      '[2001:db8::1]:5000/a',
    ],
  ]
  test.each(rows)('%s: %s ns=%s host=%s is %s', (_, path, ns, host, expected) => {
    expect(outcome(hub, path, { ns, host })).toBe(expected)
  })

  test('to the same repository by every way of addressing, with and without ns', () => {
    const registry = 'ghcr.io'
    const paths = [`/v2/ghcr.io/a/b`, `/ghcr.io/v2/a/b`, `/v2/a/b`]
    const suffixes = ['manifests/1', `blobs/${D}`, 'tags/list', `referrers/${D}`]
    for (const path of paths) {
      for (const suffix of suffixes) {
        expect(outcome(hub, `${path}/${suffix}`, { ns: registry })).toBe('ghcr.io/a/b')
        if (path !== '/v2/a/b') expect(outcome(hub, `${path}/${suffix}`)).toBe('ghcr.io/a/b')
      }
    }
  })
})

describe('a name', () => {
  test.each([
    ['/v2/blobs/manifests/latest', 'docker.io/library/blobs'],
    ['/v2/a/blobs/b/manifests/latest', 'docker.io/a/blobs/b'],
    ['/v2/docker.io/tags/tags/list', 'docker.io/library/tags'],
    [`/v2/a/manifests/blobs/${D}`, 'docker.io/a/manifests'],
    ['/v2/UPPER/manifests/1', 'NAME_INVALID'],
    ['/v2/-a/manifests/1', 'NAME_INVALID'],
    ['/v2/docker.io/manifests/1', 'NAME_INVALID'],
    [`/v2/${'a/'.repeat(128)}manifests/1`, 'docker.io/' + 'a/'.repeat(128).slice(0, -1)],
    [`/v2/${'a/'.repeat(129)}manifests/1`, 'NAME_INVALID'],
    [`/v2/${'a'.repeat(250)}/manifests/1`, 'NAME_INVALID'],
    [
      `/v2/docker.io/${'a'.repeat(127)}/${'b'.repeat(127)}/manifests/1`,
      `docker.io/${'a'.repeat(127)}/${'b'.repeat(127)}`,
    ],
    ['/v2/docker.io/docker.io/a/manifests/1', 'docker.io/docker.io/a'],
    ['/docker.io/v2/docker.io/a/manifests/1', 'docker.io/docker.io/a'],
  ])('%s is %s', (path, expected) => {
    expect(outcome(hub, path)).toBe(expected)
  })

  test('library/ is put before a single component on docker.io and nowhere else', () => {
    expect(outcome(hub, '/v2/alpine/manifests/1', { ns: 'index.docker.io' })).toBe(
      'docker.io/library/alpine',
    )
    expect(outcome(hub, '/v2/pause/manifests/1', { ns: 'registry.k8s.io' })).toBe(
      'registry.k8s.io/pause',
    )
    expect(outcome(harbor, '/v2/alpine/manifests/1')).toBe('harbor.example.com/alpine')
  })
})

describe('a first component that looks like a registry and is not configured', () => {
  test.each(['quay.io/a/b', 'quay.io:443/a', 'localhost/a', 'localhost:9/a', 'my.image'])(
    '%s is refused while the default is docker.io',
    (name) => {
      expect(outcome(hub, `/v2/${name}/manifests/1`)).toBe('NAME_UNKNOWN')
      expect(outcome(hub, `/v2/${name}/manifests/1`, { host: 'hub.cache.internal' })).toBe(
        'NAME_UNKNOWN',
      )
    },
  )

  test('is part of the name under any other default', () => {
    expect(outcome(harbor, '/v2/quay.io/a/b/manifests/1')).toBe('harbor.example.com/quay.io/a/b')
    expect(outcome(harbor, '/v2/localhost/a/manifests/1')).toBe('harbor.example.com/localhost/a')
    expect(outcome(harbor, '/v2/ghcr.io/a/b/manifests/1')).toBe('ghcr.io/a/b')
    expect(outcome(harbor, '/v2/quay.io:443/a/manifests/1')).toBe('NAME_INVALID')
  })
})

describe('a route', () => {
  test('of a request with a prefix is described', () => {
    expect(route(hub, '/Index.Docker.IO/v2/alpine/tags/list')).toEqual({
      registry: 'docker.io',
      repository: { registry: 'docker.io', name: 'library/alpine' },
      clientName: 'alpine',
      clientPrefix: '/Index.Docker.IO',
      named: true,
    })
  })

  test('of a request with ns and a first component is described', () => {
    expect(route(hub, '/v2/docker.io/library/alpine/tags/list', { ns: 'docker.io' })).toEqual({
      registry: 'docker.io',
      repository: { registry: 'docker.io', name: 'library/alpine' },
      clientName: 'docker.io/library/alpine',
      clientPrefix: '',
      ns: 'docker.io',
      named: true,
    })
  })

  test('does not name a registry that is only the default', () => {
    expect(route(hub, '/v2/alpine/tags/list', { host: 'cache' }).named).toBe(false)
    expect(route(hub, '/v2/alpine/tags/list', { host: 'hub.cache.internal' }).named).toBe(true)
    expect(route(hub, '/v2/ghcr.io/a/tags/list').named).toBe(true)
  })

  test.each([
    ['/v2/', {}, 'docker.io', false],
    ['/v2', {}, 'docker.io', false],
    ['/v2/_catalog', {}, 'docker.io', false],
    ['/ghcr.io/v2/', {}, 'ghcr.io', true],
    ['/ghcr.io/v2/_catalog', {}, 'ghcr.io', true],
    ['/v2/_catalog', { ns: 'ghcr.io' }, 'ghcr.io', true],
    ['/v2/', { host: 'hub.cache.internal' }, 'docker.io', true],
  ] as const)('of %s with %j: %s, named %s', (path, naming, registry, named) => {
    const routed = route(hub, path, naming)
    expect(routed).toMatchObject({ registry, named })
    expect(routed.repository).toBeUndefined()
  })

  test('does not exist for the ping of a registry that is not served', () => {
    expect(outcome(hub, '/quay.io/v2/')).toBe('NAME_UNKNOWN')
    expect(outcome(hub, '/v2/', { ns: 'quay.io' })).toBe('NAME_UNKNOWN')
  })

  test('exists for the plain ping whatever the default is', () => {
    const none = registries([], { defaultRegistry: 'docker.io' })
    expect(outcome(none, '/v2/')).toBe('docker.io')
    expect(outcome(none, '/v2/alpine/manifests/1')).toBe('NAME_UNKNOWN')
  })
})

describe('an ns that is invalid', () => {
  test.each([
    ['empty', ''],
    ['a path', 'docker.io/library'],
    ['a URL', 'https://docker.io'],
    ['very long', 'a.'.repeat(200) + 'io'],
    ['a line break', 'docker.io\r\nX: y'],
    ['a blank', 'docker .io'],
    ['*', '*'],
    ['several', ['docker.io', 'ghcr.io']],
  ])('(%s) is NAME_INVALID', (_, ns) => {
    expect(outcome(hub, '/v2/a/manifests/1', { ns })).toBe('NAME_INVALID')
    expect(outcome(open, '/v2/', { ns })).toBe('NAME_INVALID')
  })

  test('counts once where the same ns is given twice', () => {
    expect(outcome(hub, '/v2/a/b/tags/list', { ns: ['ghcr.io', 'ghcr.io'] })).toBe('ghcr.io/a/b')
    expect(outcome(hub, '/v2/a/b/tags/list', { ns: [] })).toBe('docker.io/a/b')
  })
})

describe('"*"', () => {
  test('serves registries without an entry, at their own endpoint', () => {
    expect(outcome(open, '/v2/quay.io/a/b/manifests/1')).toBe('quay.io/a/b')
    expect(outcome(open, '/quay.io/v2/a/b/manifests/1')).toBe('quay.io/a/b')
    expect(outcome(open, '/v2/a/b/manifests/1', { ns: 'quay.io:8443' })).toBe('quay.io:8443/a/b')
    expect(open.endpoints('quay.io:8443').map(({ key }) => key)).toEqual([
      'https://quay.io:8443/v2',
    ])
    expect(open.names).not.toContain('*')
  })

  test('does not serve private and loopback registries, which need an entry of their own', () => {
    const inside = ['localhost', 'localhost:5000', '127.0.0.1:5000', '10.1.2.3', '[::1]:5000']
    const more = ['192.168.0.1:5000', '172.16.0.1', '169.254.169.254', 'registry:5000', 'nas']
    const tricks = [
      '2130706433',
      '127.1',
      '0x7f.1',
      '[::ffff:10.0.0.1]:1',
      '[fd00::1]',
      'a.localhost',
    ]
    for (const registry of [...inside, ...more, ...tricks, '0.0.0.0:80', 'h.example:0']) {
      expect(open.serves(registry), registry).toBe(false)
      expect(outcome(open, '/v2/a/manifests/1', { ns: registry }), registry).toBe('NAME_UNKNOWN')
    }
    expect(open.serves('localhost:5001')).toBe(true)
    expect(open.serves('8.8.8.8:5000')).toBe(true)
    expect(() => route(open, '/v2/a/manifests/1', { ns: 'nas' })).toThrow('private')
  })

  test('has endpoints and rewrites for registries without an entry only', () => {
    const rewrite = { '^': 'all/' }
    const any = registries([
      mirrorFrom('docker.io'),
      mirrorFrom('*', { endpoint: ['https://mirror.example.com'], rewrite }),
    ])
    expect(any.endpoints('docker.io').map(({ key }) => key)).toEqual([
      'https://registry-1.docker.io/v2',
    ])
    const [first, second, ...others] = any.endpoints('quay.io')
    expect(others).toEqual([])
    expect(first).toMatchObject({ key: 'https://mirror.example.com/v2', isDefault: false })
    expect(first?.rewrites[0]?.apply('x')).toBe('all/x')
    expect(second).toMatchObject({ key: 'https://quay.io/v2', isDefault: true, rewrites: [] })
  })
})

describe('the endpoints of a registry', () => {
  const rewrite = { '(.*)': 'p/$1' }
  function keys(endpoints: readonly string[], defaultEndpoints = true): string[] {
    return registries([mirrorFrom('docker.io', { endpoint: endpoints, rewrite })], {
      defaultEndpoints,
    })
      .endpoints('docker.io')
      .map(
        ({ key, isDefault, rewrites: { length } }) => `${key}${isDefault ? ' own' : ''} ${length}`,
      )
  }

  test.each([
    ['none listed', [], ['https://registry-1.docker.io/v2 own 0']],
    ['one mirror', ['https://m'], ['https://m/v2 1', 'https://registry-1.docker.io/v2 own 0']],
    [
      'order is kept',
      ['b', 'http://a'],
      ['https://b/v2 1', 'http://a/v2 1', 'https://registry-1.docker.io/v2 own 0'],
    ],
    [
      'repeated after normalisation',
      ['h', 'https://h', 'https://h/v2', 'h:443'],
      ['https://h/v2 1', 'https://h:443/v2 1', 'https://registry-1.docker.io/v2 own 0'],
    ],
    [
      'the own one last',
      ['m', 'docker.io'],
      ['https://m/v2 1', 'https://registry-1.docker.io/v2 own 0'],
    ],
    [
      'the own one first keeps its place',
      ['https://registry-1.docker.io', 'm'],
      ['https://registry-1.docker.io/v2 own 0', 'https://m/v2 1'],
    ],
    [
      'with its port it is a mirror',
      ['registry-1.docker.io:443'],
      ['https://registry-1.docker.io:443/v2 1', 'https://registry-1.docker.io/v2 own 0'],
    ],
  ])('are right: %s', (_, listed, expected) => {
    expect(keys(listed)).toEqual(expected)
  })

  test('are only the listed ones without default endpoints', () => {
    expect(keys(['m'], false)).toEqual(['https://m/v2 1'])
    expect(keys(['m', 'docker.io'], false)).toEqual([
      'https://m/v2 1',
      'https://registry-1.docker.io/v2 own 0',
    ])
  })

  test('are its own where its entry lists none, also without default endpoints, as in K3s', () => {
    expect(keys([], false)).toEqual(['https://registry-1.docker.io/v2 own 0'])
  })

  test('are asked over plain HTTP for a loopback registry, unless the port says otherwise', () => {
    const of = registries([mirrorFrom('localhost:5000'), mirrorFrom('127.0.0.1:443')])
    expect(of.endpoints('localhost:5000')[0]?.key).toBe('http://localhost:5000/v2')
    expect(of.endpoints('127.0.0.1:443')[0]?.key).toBe('https://127.0.0.1:443/v2')
  })

  test('are those of docker.io for its aliases, and its own name wins over them', () => {
    const alias = mirrorFrom('registry-1.docker.io', { endpoint: ['https://alias'] })
    const real = mirrorFrom('docker.io', { endpoint: ['https://real'] })
    expect(registries([alias]).endpoints('index.docker.io')[0]?.key).toBe('https://alias/v2')
    expect(registries([alias, real]).endpoints('docker.io')[0]?.key).toBe('https://real/v2')
    expect(registries([real, alias]).names).toEqual(['docker.io'])
  })

  test('are none for a registry that is not served', () => {
    expect(hub.endpoints('quay.io')).toEqual([])
    expect(hub.serves('quay.io')).toBe(false)
    expect(hub.serves('DOCKER.IO')).toBe(true)
    expect(hub.names).toEqual(usual.map(({ registry }) => registry))
  })
})

test('a refusal names the registry and the cure', () => {
  expect(() => route(hub, '/v2/quay.io/a/manifests/1')).toThrow(
    'registry "quay.io" is not served here; add it under mirrors in the configuration: "quay.io": {}',
  )
  expect(() => route(hub, `/${'x'.repeat(200)}/v2/`)).toThrow(/^.{0,300}$/s)
})

test('a refusal names the registry that the request names, also where the default is not served either', () => {
  const company = registries([mirrorFrom('registry.test')])
  expect(() => route(company, '/v2/quay.io/a/manifests/1')).toThrow('registry "quay.io" is not')
  expect(() => route(company, '/v2/team/a/manifests/1')).toThrow('registry "docker.io" is not')
})

test('options that cannot be used are refused', () => {
  expect(() => registries([mirrorFrom('https://docker.io')])).toThrow(EndpointError)
})

test('whatever a client sends, the answer is a valid repository or an OciError', () => {
  const component = fc.constantFrom(
    'docker.io',
    'ghcr.io',
    'quay.io',
    'a',
    'A',
    'localhost:5001',
    'v2',
    'manifests',
    'blobs',
    '..',
    '%2F',
    '',
    'x.y',
    'library',
    '10.0.0.1',
    '%3A',
    'a:b',
  )
  const text = fc.oneof(component, fc.string({ maxLength: 20 }))
  const path = fc
    .tuple(
      fc.option(text),
      fc.array(text, { maxLength: 5 }),
      fc.constantFrom('manifests/1', `blobs/${D}`, 'tags/list', ''),
    )
    .map(([prefix, parts, suffix]) => [
      ...(prefix === null ? [] : [prefix]),
      'v2',
      ...parts,
      suffix,
    ])
    .map((parts) => `/${parts.join('/')}`)
  const ns = fc.option(fc.oneof(text, fc.array(text, { maxLength: 3 })), { nil: undefined })
  const host = fc.option(fc.oneof(text, fc.constant('hub.cache.internal:1')), { nil: undefined })
  fc.assert(
    fc.property(
      path,
      ns,
      host,
      fc.constantFrom(hub, harbor, open),
      (raw, nsValue, hostValue, of) => {
        try {
          const target = parseTarget(raw)
          if (target === undefined) return
          const { registry, repository } = of.route(target, { ns: nsValue, host: hostValue })
          expect(isRegistry(registry)).toBe(true)
          expect(of.endpoints(registry).length).toBeGreaterThan(0)
          if (repository === undefined) return
          expect(repository.registry).toBe(registry)
          expect(isRepositoryName(repository.name)).toBe(true)
          if (registry === 'docker.io') expect(repository.name).toContain('/')
        } catch (error) {
          expect(error).toBeInstanceOf(OciError)
        }
      },
    ),
    { numRuns: 2000 },
  )
})
