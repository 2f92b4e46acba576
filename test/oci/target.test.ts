import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OciError } from '../../src/oci/errors.ts'
import { parseTarget, type Target } from '../../src/oci/target.ts'

const DIGEST = `sha256:${'ab'.repeat(32)}`

const TARGETS: [string, Target][] = [
  ['/v2', { kind: 'ping' }],
  ['/v2/', { kind: 'ping' }],
  ['/docker.io/v2', { kind: 'ping', prefix: 'docker.io' }],
  ['/docker.io/v2/', { kind: 'ping', prefix: 'docker.io' }],
  ['/host:5000/v2/', { kind: 'ping', prefix: 'host:5000' }],
  ['/host%3A5000/v2/', { kind: 'ping', prefix: 'host:5000' }],
  ['/v2/_catalog', { kind: 'catalog' }],
  ['/ghcr.io/v2/_catalog', { kind: 'catalog', prefix: 'ghcr.io' }],
  ['/v2/a/manifests/latest', { kind: 'manifest', name: 'a', reference: 'latest' }],
  ['/v2/a/b/c/d/manifests/1', { kind: 'manifest', name: 'a/b/c/d', reference: '1' }],
  [`/v2/a/manifests/${DIGEST}`, { kind: 'manifest', name: 'a', reference: DIGEST }],
  [
    `/v2/a/manifests/${DIGEST.replace(':', '%3A')}`,
    { kind: 'manifest', name: 'a', reference: DIGEST },
  ],
  [
    '/v2/a/manifests/.INVALID_MANIFEST_NAME',
    { kind: 'manifest', name: 'a', reference: '.INVALID_MANIFEST_NAME' },
  ],
  [
    '/v2/a/manifests/sha256:totallywrong',
    { kind: 'manifest', name: 'a', reference: 'sha256:totallywrong' },
  ],
  [`/v2/a/b/blobs/${DIGEST}`, { kind: 'blob', name: 'a/b', digest: DIGEST }],
  [`/v2/a/b/blobs/${DIGEST.replace(':', '%3a')}`, { kind: 'blob', name: 'a/b', digest: DIGEST }],
  ['/v2/a/tags/list', { kind: 'tags', name: 'a' }],
  [`/v2/a/referrers/${DIGEST}`, { kind: 'referrers', name: 'a', digest: DIGEST }],
  // A registry in the name, with a port.
  ['/v2/host:5000/a/tags/list', { kind: 'tags', name: 'host:5000/a' }],
  ['/v2/host%3A5000/a/tags/list', { kind: 'tags', name: 'host:5000/a' }],
  ['/v2/docker.io/library/alpine/manifests/3', manifest('docker.io/library/alpine', '3')],
  ['/docker.io/v2/library/alpine/manifests/3', manifest('library/alpine', '3', 'docker.io')],
  // Names that hold the API's own words: the last suffix wins.
  ['/v2/a/blobs/b/manifests/latest', manifest('a/blobs/b', 'latest')],
  ['/v2/manifests/manifests/manifests', manifest('manifests', 'manifests')],
  ['/v2/a/manifests/manifests/b', manifest('a/manifests', 'b')],
  ['/v2/a/tags/list/manifests/b', manifest('a/tags/list', 'b')],
  ['/v2/a/tags/manifests/list', manifest('a/tags', 'list')],
  ['/v2/a/blobs/uploads/manifests/x', manifest('a/blobs/uploads', 'x')],
  [`/v2/a/manifests/b/blobs/${DIGEST}`, { kind: 'blob', name: 'a/manifests/b', digest: DIGEST }],
  ['/v2/a/manifests/tags/list', { kind: 'tags', name: 'a/manifests' }],
  ['/v2/tags/list/tags/list', { kind: 'tags', name: 'tags/list' }],
  ['/v2/v2/manifests/v2', manifest('v2', 'v2')],
  ['/v2/x/v2/tags/list', { kind: 'tags', name: 'x/v2' }],
  ['/v2/_catalog/manifests/a', manifest('_catalog', 'a')],
  // Pushing, to be refused by the server as such.
  ['/v2/a/b/blobs/uploads', { kind: 'upload', name: 'a/b' }],
  ['/v2/a/b/blobs/uploads/', { kind: 'upload', name: 'a/b' }],
  ['/v2/a/b/blobs/uploads/0b3f-11', { kind: 'upload', name: 'a/b' }],
  ['/v2/a/blobs/uploads/b/blobs/uploads/', { kind: 'upload', name: 'a/blobs/uploads/b' }],
  ['/r.io/v2/a/blobs/uploads/', { kind: 'upload', prefix: 'r.io', name: 'a' }],
]

function manifest(name: string, reference: string, prefix?: string): Target {
  return { kind: 'manifest', name, reference, ...(prefix !== undefined && { prefix }) }
}

describe('parseTarget', () => {
  it.each(TARGETS)('reads %s', (path, target) => {
    expect(parseTarget(path)).toEqual(target)
  })

  it.each([
    '',
    '/',
    'v2/',
    '/v1/',
    '/v2x',
    '/healthz',
    '/a/b/v2/',
    '//v2/',
    '/v2/a',
    '/v2/a/b/c',
    '/v2/manifests/latest',
    '/v2/tags/list',
    '/v2/a/tags/other',
    '/v2/a/_catalog',
    `/v2/blobs/${DIGEST}`,
    '/v2/blobs/uploads/x',
  ])('finds no path of this API in %j', (path) => {
    expect(parseTarget(path)).toBeUndefined()
  })

  it.each([
    '/v2//manifests/latest',
    '/v2/a//b/manifests/latest',
    '/v2/a/manifests/',
    '/v2/a/manifests/latest/',
    '/v2/a/tags/list/',
    '/v2/_catalog/',
    '/v2//',
    '/v2/./a/tags/list',
    '/v2/../a/tags/list',
    '/v2/a/%2e%2e/tags/list',
    '/v2/a/%2E/tags/list',
    '/v2/a/manifests/..',
    '/v2/a%2Fb/tags/list',
    '/v2/a%2fb/tags/list',
    '/v2/a/manifests/x%2Fy',
    '/v2/a%5Cb/tags/list',
    '/v2/a%00/tags/list',
    '/v2/a%0a/tags/list',
    '/v2/a%20b/tags/list',
    '/v2/a%25b/tags/list',
    '/v2/%zz/manifests/latest',
    '/v2/a/manifests/%',
    '/v2/a/manifests/%ff',
    '/v2/caf%C3%A9/tags/list',
    '/%2e%2e/v2/',
    '/a%2fb/v2/',
    `/v2/${'a/'.repeat(3000)}tags/list`,
  ])('refuses %s', (path) => {
    expect(() => parseTarget(path)).toThrow(expect.objectContaining({ code: 'NAME_INVALID' }))
  })

  it('finds the name and the reference, whatever words the name is made of', () => {
    const word = fc.constantFrom('a', 'blobs', 'manifests', 'tags', 'list', 'referrers', 'uploads')
    const name = fc.array(word, { minLength: 1, maxLength: 8 }).map((words) => words.join('/'))
    fc.assert(
      fc.property(name, fc.constantFrom('', '/docker.io'), (text, prefix) => {
        const common = { name: text, ...(prefix !== '' && { prefix: prefix.slice(1) }) }
        const root = `${prefix}/v2/${text}`
        const reference = 'latest'
        expect(parseTarget(`${root}/manifests/latest`)).toEqual({
          kind: 'manifest',
          ...common,
          reference,
        })
        expect(parseTarget(`${root}/blobs/${DIGEST}`)).toEqual({
          kind: 'blob',
          ...common,
          digest: DIGEST,
        })
        expect(parseTarget(`${root}/tags/list`)).toEqual({ kind: 'tags', ...common })
        expect(parseTarget(`${root}/blobs/uploads/`)).toEqual({ kind: 'upload', ...common })
      }),
    )
  })

  it('never lets through a component that could leave its folder', () => {
    const piece = fc.constantFrom(
      'v2',
      'a',
      '/',
      '//',
      '.',
      '..',
      '%2f',
      '%2e',
      '%5c',
      '%00',
      '%',
      'tags/list',
      'manifests',
      'blobs',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        let target: Target | undefined
        try {
          target = parseTarget(`/v2/${pieces.join('')}`)
        } catch (error) {
          expect(error).toBeInstanceOf(OciError)
        }
        if (target === undefined || !('name' in target)) return
        const last =
          'reference' in target ? target.reference : 'digest' in target ? target.digest : 'x'
        for (const component of [...target.name.split('/'), last]) {
          expect(component).toMatch(/^[^/\\%\0]+$/)
          expect(['.', '..']).not.toContain(component)
        }
      }),
      { numRuns: 1000 },
    )
  })

  it('handles any string without any error but its own', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        try {
          parseTarget(`/v2/${text}`)
          parseTarget(text)
        } catch (error) {
          expect(error).toBeInstanceOf(OciError)
        }
      }),
    )
  })
})
