// What docker/compose.yaml mounts into its containers from this repository.
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parse } from 'yaml'

const DOCKER = join(import.meta.dirname, '../../docker')

export interface ComposeMount {
  /** Where it is here. */
  readonly source: string
  /** Where it is in the container. */
  readonly target: string
  readonly mode: string
}

/** Files and directories that a service has from here; its volumes are left out. */
export function composeMounts(service: string): ComposeMount[] {
  const { services } = parse(readFileSync(join(DOCKER, 'compose.yaml'), 'utf8'))
  const volumes: string[] = services[service].volumes
  return volumes
    .map((volume) => volume.split(':'))
    .filter(([source = '']) => source.startsWith('.'))
    .map(([source = '', target = '', mode = 'rw']) => ({
      source: join(DOCKER, source),
      target,
      mode,
    }))
}

/** What a path in the service's container is here; undefined where it is nothing from here. */
export function hostPath(service: string, path: string): string | undefined {
  for (const { source, target } of composeMounts(service)) {
    const rest = relative(target, path)
    if (!rest.startsWith('..')) return join(source, rest)
  }
  return undefined
}
