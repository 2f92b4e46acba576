// Reads which files of this repository docker/compose.yaml mounts into its containers.
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parse } from 'yaml'

const DOCKER = join(import.meta.dirname, '../../docker')

export interface ComposeMount {
  /** The path in this repository. */
  readonly source: string
  /** The path in the container. */
  readonly target: string
  readonly mode: string
}

/**
 * Returns the files and directories of this repository that a service mounts. Its volumes are left
 * out.
 */
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

/**
 * Returns the path here of a path in the container, or undefined if it is not from this repository.
 */
export function hostPath(service: string, path: string): string | undefined {
  for (const { source, target } of composeMounts(service)) {
    const rest = relative(target, path)
    if (!rest.startsWith('..')) return join(source, rest)
  }
  return undefined
}
