import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MAX_DESCRIPTORS, MAX_MANIFEST_BYTES, readManifest } from '../../src/oci/manifest.ts'
import {
  DOCKER_LIST,
  DOCKER_MANIFEST,
  DOCKER_SCHEMA1,
  DOCKER_SCHEMA1_SIGNED,
  OCI_ARTIFACT,
  OCI_INDEX,
  OCI_MANIFEST,
} from '../../src/oci/media-types.ts'

const CONFIG = descriptor('application/vnd.oci.image.config.v1+json', 1)
const LAYER = descriptor('application/vnd.oci.image.layer.v1.tar+gzip', 2)
const CHILD = descriptor(OCI_MANIFEST, 3)
const SUBJECT = descriptor(OCI_INDEX, 4)

function descriptor(mediaType: string, size: number) {
  return { mediaType, digest: `sha256:${`0${size}`.repeat(32)}`, size }
}

function bytes(json: unknown): Buffer {
  return Buffer.from(JSON.stringify(json))
}

const IMAGE = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: CONFIG, layers: [LAYER] }
function padded(length: number): Buffer {
  return Buffer.from(JSON.stringify(IMAGE).padEnd(length))
}

const INDEX = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [CHILD] }

describe('readManifest', () => {
  it('names config and layers of an image', () => {
    expect(readManifest(bytes(IMAGE))).toEqual({
      mediaType: OCI_MANIFEST,
      children: [],
      blobs: [CONFIG, LAYER],
      artifactType: CONFIG.mediaType,
      schema1: false,
    })
  })

  it('names the manifests of an index', () => {
    const annotations = { 'org.example': 'x' }
    expect(readManifest(bytes({ ...INDEX, annotations, artifactType: 'application/x' }))).toEqual({
      mediaType: OCI_INDEX,
      children: [CHILD],
      blobs: [],
      artifactType: 'application/x',
      annotations,
      schema1: false,
    })
  })

  it('reads subject and artifact type of a signature', () => {
    const summary = readManifest(
      bytes({ ...IMAGE, subject: SUBJECT, artifactType: 'application/y' }),
    )
    expect(summary).toMatchObject({ subject: SUBJECT, artifactType: 'application/y' })
  })

  it('reads what an index lists as blobs where it is not a manifest, as in BuildKit caches', () => {
    const summary = readManifest(bytes({ ...INDEX, manifests: [LAYER, CONFIG, CHILD] }))
    expect(summary).toMatchObject({ children: [CHILD], blobs: [LAYER, CONFIG] })
  })

  it('reads an artifact manifest of the drafts of image-spec 1.1', () => {
    const artifact = {
      mediaType: OCI_ARTIFACT,
      artifactType: 'a/b',
      blobs: [LAYER],
      subject: SUBJECT,
    }
    expect(readManifest(bytes(artifact))).toEqual({
      mediaType: OCI_ARTIFACT,
      children: [],
      blobs: [LAYER],
      subject: SUBJECT,
      artifactType: 'a/b',
      schema1: false,
    })
  })

  it.each([
    [{}, DOCKER_SCHEMA1],
    [{ signatures: [{}] }, DOCKER_SCHEMA1_SIGNED],
  ])('flags schema 1 (%j), whose layers have no sizes', (extra, mediaType) => {
    const schema1 = { schemaVersion: 1, name: 'a', fsLayers: [{ blobSum: LAYER.digest }], ...extra }
    const empty = { children: [], blobs: [], schema1: true }
    expect(readManifest(bytes(schema1))).toEqual({ mediaType, ...empty })
    expect(readManifest(bytes(schema1), DOCKER_SCHEMA1_SIGNED)?.mediaType).toBe(
      DOCKER_SCHEMA1_SIGNED,
    )
  })

  it.each([
    ['the answer', IMAGE, `${DOCKER_MANIFEST}; charset=utf-8`, DOCKER_MANIFEST],
    ['the content, if the answer says nothing', IMAGE, undefined, OCI_MANIFEST],
    ['the content, if the answer names no manifest', IMAGE, 'text/plain', OCI_MANIFEST],
    ['the content, if the answer does not fit it', INDEX, DOCKER_MANIFEST, OCI_INDEX],
    ['the shape of an image', { ...IMAGE, mediaType: undefined }, undefined, OCI_MANIFEST],
    ['the shape of an index', { ...INDEX, mediaType: '' }, 'application/json', OCI_INDEX],
    [
      "Docker's config",
      {
        schemaVersion: 2,
        config: descriptor('application/vnd.docker.container.image.v1+json', 1),
        layers: [],
      },
      undefined,
      DOCKER_MANIFEST,
    ],
    [
      "Docker's children",
      { schemaVersion: 2, manifests: [descriptor(DOCKER_MANIFEST, 3)] },
      undefined,
      DOCKER_LIST,
    ],
  ])('takes the type from %s', (_, json, contentType, mediaType) => {
    expect(readManifest(bytes(json), contentType)?.mediaType).toBe(mediaType)
  })

  it('reads lists that Go wrote as null, and skips invalid entries', () => {
    expect(readManifest(bytes({ ...INDEX, manifests: null }))?.children).toEqual([])
    expect(readManifest(bytes({ ...IMAGE, layers: null }))?.blobs).toEqual([CONFIG])
    expect(readManifest(bytes({ ...IMAGE, layers: undefined }))?.blobs).toEqual([CONFIG])
    expect(readManifest(bytes({ ...IMAGE, layers: [null, 1, {}, LAYER] }))?.blobs).toEqual([
      CONFIG,
      LAYER,
    ])
  })

  it('reads a bounded number of entries', () => {
    const many = { ...INDEX, manifests: Array.from({ length: MAX_DESCRIPTORS + 5 }, () => CHILD) }
    expect(readManifest(bytes(many))?.children).toHaveLength(MAX_DESCRIPTORS)
  })

  it.each([
    ['nothing', ''],
    ['HTML', '<!DOCTYPE html><html></html>'],
    ['half of a manifest', JSON.stringify(IMAGE).slice(0, -9)],
    ['a list', '[]'],
    ['null', 'null'],
    ['a text', '"manifest"'],
    ['an empty object', '{}'],
    ['an error', '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'],
    ['a tag list', '{"name":"a","tags":["b"]}'],
    ['an image config', '{"architecture":"amd64","config":{"Env":[]},"rootfs":{}}'],
    ['a version alone', '{"schemaVersion":2}'],
    ['another config', '{"schemaVersion":2,"config":{"a":1}}'],
    ['schema 1 without layers', '{"schemaVersion":1,"name":"a"}'],
    ['manifests without a version', '{"manifests":[]}'],
    ['both an index and an image', JSON.stringify({ ...IMAGE, ...INDEX })],
  ])('does not take %s for a manifest', (_, text) => {
    expect(readManifest(Buffer.from(text), OCI_MANIFEST)).toBeUndefined()
  })

  it('does not read what is too large', () => {
    expect(readManifest(padded(MAX_MANIFEST_BYTES))).toBeDefined()
    expect(readManifest(padded(MAX_MANIFEST_BYTES + 1))).toBeUndefined()
  })

  it('reads any bytes and any JSON without an error', () => {
    const field = fc.jsonValue()
    const odd = fc.record(
      {
        schemaVersion: fc.constantFrom(1, 2),
        mediaType: fc.oneof(field, fc.constantFrom(OCI_INDEX, OCI_MANIFEST, OCI_ARTIFACT)),
        manifests: field,
        layers: field,
        config: field,
        blobs: field,
        fsLayers: field,
        subject: field,
        annotations: field,
      },
      { requiredKeys: [] },
    )
    fc.assert(fc.property(odd, (json) => void readManifest(bytes(json))))
    fc.assert(
      fc.property(fc.uint8Array(), (any) => {
        expect(readManifest(any)).toBeUndefined()
      }),
    )
  })
})
