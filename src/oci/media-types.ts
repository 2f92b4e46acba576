// Media types of manifests, and what is sent as Accept to get the original bytes of any of them.

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
/** Of the artifact manifest that image-spec 1.1 dropped before its release; some registries still hold such. */
export const OCI_ARTIFACT = 'application/vnd.oci.artifact.manifest.v1+json'
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_SCHEMA1 = 'application/vnd.docker.distribution.manifest.v1+json'
export const DOCKER_SCHEMA1_SIGNED = 'application/vnd.docker.distribution.manifest.v1+prettyjws'

/** The Accept value for upstreams. Always all four: with fewer, registries convert or refuse, and bytes differ. */
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

/** A Content-Type without its parameters, lower-case and trimmed; undefined when nothing is left. */
export function bareType(header: string | undefined): string | undefined {
  const type = header?.split(';', 1)[0]?.trim().toLowerCase()
  return type === '' ? undefined : type
}

/** Whether it is one of the types above. */
export function isManifestType(type: string): boolean {
  return MANIFEST_TYPES.has(type)
}

/** Whether manifests of this type list other manifests. */
export function isIndexType(type: string): boolean {
  return type === OCI_INDEX || type === DOCKER_LIST
}

/** Whether it is Docker's schema 1, whose digest is not that of the bytes. */
export function isSchema1Type(type: string): boolean {
  return type === DOCKER_SCHEMA1 || type === DOCKER_SCHEMA1_SIGNED
}
