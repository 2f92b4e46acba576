import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OciError } from '../../src/oci/errors.ts'
import {
  isDigestTag,
  isRegistry,
  isRepositoryName,
  isTag,
  looksLikeRegistry,
  normaliseRegistry,
  parseImage,
  referrersTag,
} from '../../src/oci/reference.ts'

const HEX = 'ab'.repeat(32)
const DIGEST = `sha256:${HEX}` as const

describe('isRepositoryName', () => {
  it.each([
    'alpine',
    'library/alpine',
    'a/b/c/d/e/f',
    'a.b_c__d-e---f/0',
    'x/blobs/manifests/tags/list',
    'a'.repeat(255),
  ])('accepts %s', (name) => expect(isRepositoryName(name)).toBe(true))

  it.each([
    '',
    '/',
    'a/',
    '/a',
    'a//b',
    'A',
    'a/B',
    '.a',
    'a.',
    'a..b',
    'a___b',
    'a._b',
    '-a',
    'a-',
    'a:b',
    'a b',
    'a\n',
    'é',
    '..',
    'a/../b',
    'a'.repeat(256),
  ])('refuses %j', (name) => expect(isRepositoryName(name)).toBe(false))

  it('decides about long near-misses at once', () => {
    const started = performance.now()
    expect(isRepositoryName(`${'a-'.repeat(127)}!`)).toBe(false)
    expect(isRepositoryName('-'.repeat(250))).toBe(false)
    expect(performance.now() - started).toBeLessThan(500)
  })
})

describe('isTag', () => {
  it.each(['latest', 'v1.2.3', '_', 'A-b.C_d', 'x'.repeat(128), `sha256-${HEX}.sig`])(
    'accepts %s',
    (tag) => expect(isTag(tag)).toBe(true),
  )
  it.each(['', '.INVALID_MANIFEST_NAME', '-x', 'a:b', 'a/b', 'a b', 'a\n', 'é', 'x'.repeat(129)])(
    'refuses %j',
    (tag) => expect(isTag(tag)).toBe(false),
  )
})

describe('the name of a registry', () => {
  it.each([
    ['docker.io', 'docker.io'],
    ['index.docker.io', 'docker.io'],
    ['registry-1.docker.io', 'docker.io'],
    ['Registry-1.Docker.IO', 'docker.io'],
    ['GHCR.io', 'ghcr.io'],
    ['localhost:5000', 'localhost:5000'],
  ])('written as %s is known as %s', (host, name) => expect(normaliseRegistry(host)).toBe(name))

  it.each(['ghcr.io', 'localhost', 'host:5000', '10.0.0.1', '[::1]:5000'])(
    'is recognised in %s',
    (text) => expect(looksLikeRegistry(text)).toBe(true),
  )
  it.each(['library', 'team', '', 'localhosts'])('is not recognised in %j', (text) =>
    expect(looksLikeRegistry(text)).toBe(false),
  )

  it.each(['ghcr.io', 'localhost', 'my_host:5000', '10.0.0.1:80', '[fd00::1]:5000', '[::1]'])(
    'may be %s by its grammar',
    (text) => expect(isRegistry(text)).toBe(true),
  )
  it.each(['', '.', 'a..b', 'a/b', 'a:', 'a:b', 'a:123456', '-a', 'a b', 'u@h', '[]', 'A.io'])(
    'may not be %j by its grammar',
    (text) => expect(isRegistry(text)).toBe(false),
  )
})

describe('parseImage', () => {
  it.each([
    ['alpine', 'docker.io', 'library/alpine', undefined, undefined],
    ['alpine:3.20', 'docker.io', 'library/alpine', '3.20', undefined],
    ['localhost:5000', 'docker.io', 'library/localhost', '5000', undefined],
    ['grafana/grafana', 'docker.io', 'grafana/grafana', undefined, undefined],
    ['docker.io/alpine', 'docker.io', 'library/alpine', undefined, undefined],
    ['index.docker.io/alpine', 'docker.io', 'library/alpine', undefined, undefined],
    ['registry-1.docker.io/a/b:c', 'docker.io', 'a/b', 'c', undefined],
    ['ghcr.io/alpine', 'ghcr.io', 'alpine', undefined, undefined],
    ['GHCR.io/org/x:1', 'ghcr.io', 'org/x', '1', undefined],
    ['localhost/x', 'localhost', 'x', undefined, undefined],
    ['localhost:5000/x:y', 'localhost:5000', 'x', 'y', undefined],
    ['[fd00::1]:5000/x:y', '[fd00::1]:5000', 'x', 'y', undefined],
    ['Host/x', 'host', 'x', undefined, undefined],
    [`quay.io/a/b@${DIGEST}`, 'quay.io', 'a/b', undefined, DIGEST],
    [`quay.io/a/b:t@${DIGEST}`, 'quay.io', 'a/b', 't', DIGEST],
  ])('reads %s', (text, registry, name, tag, digest) => {
    const image = parseImage(text)
    expect(image.repository).toEqual({ registry, name })
    expect([image.tag, image.digest]).toEqual([tag, digest])
    expect('tag' in image).toBe(tag !== undefined)
    expect('digest' in image).toBe(digest !== undefined)
  })

  it('adds library/ on docker.io alone when the default is another', () => {
    expect(parseImage('x', 'ghcr.io').repository).toEqual({ registry: 'ghcr.io', name: 'x' })
    expect(parseImage('a/b', 'Index.docker.io').repository.registry).toBe('docker.io')
  })

  it.each([
    ['', 'NAME_INVALID'],
    ['/', 'NAME_INVALID'],
    ['docker.io/', 'NAME_INVALID'],
    ['ghcr.io/', 'NAME_INVALID'],
    ['Alpine', 'NAME_INVALID'],
    ['ghcr.io/Org/x', 'NAME_INVALID'],
    ['https://ghcr.io/x', 'NAME_INVALID'],
    ['user@ghcr.io/x', 'DIGEST_INVALID'],
    ['ghcr.io:port/x', 'NAME_INVALID'],
    ['a/../b', 'NAME_INVALID'],
    [HEX, 'NAME_INVALID'],
    ['x'.repeat(249), 'NAME_INVALID'],
    ['x'.repeat(5000), 'NAME_INVALID'],
    [`x@${'a'.repeat(5000)}`, 'NAME_INVALID'],
    ['x:', 'TAG_INVALID'],
    ['x:.y', 'TAG_INVALID'],
    ['x:a:b', 'TAG_INVALID'],
    ['x@', 'DIGEST_INVALID'],
    ['x@sha256:12', 'DIGEST_INVALID'],
    [`x@${DIGEST}@${DIGEST}`, 'DIGEST_INVALID'],
  ])('refuses %j with %s', (text, code) => {
    expect(() => parseImage(text)).toThrow(expect.objectContaining({ code }))
  })

  it('reads any string, or refuses it with a short error', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 2000 }), (text) => {
        try {
          const { repository, tag } = parseImage(text)
          expect(isRepositoryName(repository.name) && isRegistry(repository.registry)).toBe(true)
          expect(tag === undefined || isTag(tag)).toBe(true)
        } catch (error) {
          if (!(error instanceof OciError)) throw error
          expect(error.message.length).toBeLessThan(800)
        }
      }),
    )
  })

  it('reads back what it read, from the full form', () => {
    const part = fc.stringMatching(/^[a-z0-9]{1,8}$/)
    const name = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'))
    const host = fc.constantFrom('docker.io', 'ghcr.io', 'localhost:5000', 'my.host:1')
    const tag = fc.stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}$/)
    fc.assert(
      fc.property(host, name, tag, (registry, repository, text) => {
        const image = parseImage(`${registry}/${repository}:${text}`)
        const { registry: host2, name: name2 } = image.repository
        expect(host2).toBe(registry)
        expect(name2.endsWith(repository)).toBe(true)
        expect(parseImage(`${host2}/${name2}:${image.tag}`)).toEqual(image)
      }),
    )
  })
})

describe('a tag made of a digest', () => {
  it('has its encoded part cut at 64 characters for referrers', () => {
    expect(referrersTag(DIGEST)).toBe(`sha256-${HEX}`)
    expect(referrersTag(`sha512:${HEX}${HEX}`)).toBe(`sha512-${HEX}`)
  })

  it.each([
    `sha256-${HEX}`,
    `sha512-${HEX}`,
    `sha256-${HEX}.sig`,
    `sha256-${HEX}.att`,
    `sha256-${HEX}.sbom`,
  ])('is recognised in %s', (tag) => expect(isDigestTag(tag)).toBe(true))
  it.each(['latest', 'sha256-', `sha256-${HEX}.exe`, `sha256-${HEX}0`, `x-sha256-${HEX}`])(
    'is not recognised in %s',
    (tag) => expect(isDigestTag(tag)).toBe(false),
  )
})
