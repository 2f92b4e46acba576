// The media types of manifests, and the Accept header that gets any of them unconverted.

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
/** The artifact manifest, dropped before image-spec 1.1 was released. Some registries still hold such manifests. */
export const OCI_ARTIFACT = 'application/vnd.oci.artifact.manifest.v1+json'
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_SCHEMA1 = 'application/vnd.docker.distribution.manifest.v1+json'
export const DOCKER_SCHEMA1_SIGNED = 'application/vnd.docker.distribution.manifest.v1+prettyjws'

/** The Accept header for upstreams. With fewer types a registry converts or refuses, and the bytes differ. */
export const ACCEPT_MANIFESTS = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, '*/*'].join(
  ', ',
)

const MANIFEST_TYPES = new Set([
  OCI_INDEX,
  OCI_MANIFEST,
  OCI_ARTIFACT,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  DOCKER_SCHEMA1,
  DOCKER_SCHEMA1_SIGNED,
])

/** Returns a Content-Type in lower case without its parameters, or undefined if nothing is left. */
export function bareType(header: string | undefined): string | undefined {
  const type = header?.split(';', 1)[0]?.trim().toLowerCase()
  return type === '' ? undefined : type
}

/** Reports whether it is one of the types above. */
export function isManifestType(type: string): boolean {
  return MANIFEST_TYPES.has(type)
}

/** Reports whether manifests of this type list other manifests. */
export function isIndexType(type: string): boolean {
  return type === OCI_INDEX || type === DOCKER_LIST
}

/** Reports whether it is Docker's schema 1, whose digest is not that of its bytes. */
export function isSchema1Type(type: string): boolean {
  return type === DOCKER_SCHEMA1 || type === DOCKER_SCHEMA1_SIGNED
}
