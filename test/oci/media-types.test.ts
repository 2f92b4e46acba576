import { expect, it } from 'vitest'
import {
  ACCEPT_MANIFESTS,
  bareType,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  DOCKER_SCHEMA1,
  DOCKER_SCHEMA1_SIGNED,
  isIndexType,
  isManifestType,
  isSchema1Type,
  OCI_INDEX,
  OCI_MANIFEST,
} from '../../src/oci/media-types.ts'

it('the Accept header asks upstreams for all four types, then for anything', () => {
  const types = ACCEPT_MANIFESTS.split(', ')
  expect(types.toSorted()).toEqual(
    [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, '*/*'].toSorted(),
  )
  expect(types.at(-1)).toBe('*/*')
})

it.each([
  [undefined, undefined],
  ['', undefined],
  [' ; charset=utf-8', undefined],
  ['Text/HTML; charset=utf-8', 'text/html'],
  [` ${OCI_INDEX} `, OCI_INDEX],
])('the bare type of %j is %j', (header, type) => {
  expect(bareType(header)).toBe(type)
})

it('the media types of manifests and indexes are told apart', () => {
  const all = [
    OCI_INDEX,
    DOCKER_LIST,
    OCI_MANIFEST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
  ]
  expect(all.filter(isIndexType)).toEqual([OCI_INDEX, DOCKER_LIST])
  expect(all.filter(isSchema1Type)).toEqual([DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED])
  expect(all.every(isManifestType)).toBe(true)
  expect(isManifestType('application/json')).toBe(false)
})
