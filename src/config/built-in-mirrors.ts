// The registries served when neither Chandlery's own file nor a K3s file lists any.

/** Each registry, followed by the endpoints to ask before its own. */
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
