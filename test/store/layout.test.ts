import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { digestOf, parseDigest } from '../../src/oci/digest.ts'
import { checkKey } from '../../src/store/driver/driver.ts'
import {
  blobKey,
  digestOfKey,
  linkKey,
  manifestKey,
  referrersKey,
  repositoryOfKey,
  repositoryPrefix,
  tagKey,
  tagsPrefix,
} from '../../src/store/layout.ts'

const digest = digestOf(Buffer.from('content'))
const hex = digest.slice('sha256:'.length)
const alpine = { registry: 'docker.io', name: 'library/alpine' }

const component = fc.stringMatching(/^[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?$/)
const repositories = fc.record({
  registry: fc.constantFrom(
    'docker.io',
    'localhost:5000',
    '[::1]:5000',
    '10.0.0.1:443',
    'localhost',
  ),
  name: fc
    .array(fc.oneof(component, fc.constantFrom('blobs', 'manifests', 'tags', 'ingest')), {
      minLength: 1,
      maxLength: 6,
    })
    .map((parts) => parts.join('/')),
})
const digests = fc
  .tuple(fc.uint8Array(), fc.constantFrom('sha256' as const, 'sha512' as const))
  .map(([bytes, algorithm]) => digestOf(bytes, algorithm))

describe('the layout', () => {
  test('is the documented one', () => {
    const shard = hex.slice(0, 2)
    expect(blobKey(digest)).toBe(`blobs/sha256/${shard}/${hex}`)
    expect(manifestKey(digest)).toBe(`manifests/sha256/${shard}/${hex}`)
    const base = 'repositories/docker.io/library/alpine'
    expect(linkKey(alpine, 'blob', digest)).toBe(`${base}/_blobs/sha256/${hex}`)
    expect(linkKey(alpine, 'manifest', digest)).toBe(`${base}/_manifests/sha256/${hex}`)
    expect(tagKey(alpine, 'Latest')).toBe(`${base}/_tags/Latest`)
    expect(tagsPrefix(alpine)).toBe(`${base}/_tags/`)
    expect(referrersKey(alpine, digest)).toBe(`${base}/_referrers/sha256/${hex}`)
  })

  test('makes keys that a driver accepts, and that lead back to what they were made of', () => {
    fc.assert(
      fc.property(repositories, digests, (repository, d) => {
        for (const key of [blobKey(d), manifestKey(d)]) {
          checkKey(key)
          expect(digestOfKey(key)).toBe(d)
        }
        const made = [
          linkKey(repository, 'blob', d),
          linkKey(repository, 'manifest', d),
          tagKey(repository, 'v1'),
          referrersKey(repository, d),
        ]
        for (const key of made) {
          checkKey(key)
          const found = repositoryOfKey(key)
          expect(found?.repository).toEqual(repository)
          expect(`${repositoryPrefix(repository)}${found?.rest}`).toBe(key)
        }
        expect(new Set(made).size).toBe(made.length)
      }),
    )
  })

  test('keeps two repositories apart, also where one is below the other', () => {
    fc.assert(
      fc.property(repositories, repositories, (a, b) => {
        fc.pre(a.registry !== b.registry || a.name !== b.name)
        expect(tagKey(a, 'x')).not.toBe(tagKey(b, 'x'))
        expect(tagKey(b, 'x').startsWith(tagsPrefix(a))).toBe(false)
      }),
    )
  })

  test('refuses names that could leave their folder or pass for a part of the store', () => {
    const bad = [
      { registry: '..', name: 'a' },
      { registry: '', name: 'a' },
      { registry: 'a/b', name: 'c' },
      { registry: '_tags', name: 'a' },
      { registry: 'docker.io', name: '' },
      { registry: 'docker.io', name: '../x' },
      { registry: 'docker.io', name: 'a//b' },
      { registry: 'docker.io', name: 'a/_tags/x' },
      { registry: 'docker.io', name: '/a' },
    ]
    for (const repository of bad) {
      expect(() => repositoryPrefix(repository), JSON.stringify(repository)).toThrow(TypeError)
    }
    expect(() => tagKey(alpine, '')).toThrow(TypeError)
    expect(() => tagKey(alpine, 'a/b')).toThrow(TypeError)
    expect(() => checkKey(tagKey(alpine, '..'))).toThrow(TypeError)
  })

  test('recognises no digest and no repository in keys that it did not make', () => {
    expect(digestOfKey(`blobs/sha256/00/${hex.replace(/^../, 'ff')}`)).toBeUndefined()
    expect(digestOfKey(`${blobKey(digest)}/more`)).toBeUndefined()
    expect(digestOfKey('blobs/sha256/ab/abcd')).toBeUndefined()
    expect(digestOfKey('version')).toBeUndefined()
    for (const key of [
      'version',
      'repositories/',
      'repositories/r',
      'repositories/r/_tags/x',
      'repositories/r/a/b',
    ]) {
      expect(repositoryOfKey(key), key).toBeUndefined()
    }
    expect(parseDigest(digest)).toBe(digest)
  })
})
