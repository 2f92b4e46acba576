// The registries served when neither our file nor a K3s file lists any.

/** Registry and the endpoints to ask instead of its own. */
export const BUILT_IN_MIRRORS: readonly (readonly [registry: string, ...endpoints: string[]])[] = [
  ['docker.io'],
  ['registry.k8s.io'],
  ['k8s.gcr.io', 'https://registry.k8s.io'],
  ['ghcr.io'],
  ['quay.io'],
  ['gcr.io'],
  ['mcr.microsoft.com'],
  ['public.ecr.aws'],
  ['nvcr.io'],
  ['registry.gitlab.com'],
]
