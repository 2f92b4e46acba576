// Checks the files and variables that a configuration names: that they exist and have usable content.
import { access, constants, stat } from 'node:fs/promises'
import type { Config } from './config.ts'
import type { Environment } from './env.ts'
import type { KeyPath, Place, Problem } from './problem.ts'
import { readFailure } from './read-text.ts'
import { Secret } from './secret.ts'
import { type Finding, wrongContents } from './wrong-contents.ts'

interface Reference {
  readonly path: KeyPath
  readonly file?: string
  readonly env?: string
}

/** Returns the place of a configuration key, and the severity of a problem with what it names. */
export type Locate = (path: KeyPath) => Pick<Problem, 'severity'> & { readonly at: Place | string }

/** Returns a problem for each named file that cannot be read or used, and each variable not set. */
export async function checkReferences(
  config: Config,
  env: Environment,
  locate: Locate,
): Promise<Problem[]> {
  const problems = await Promise.all(
    referencesOf(config).map(async ({ path, file, env: name }): Promise<Problem[]> => {
      const message =
        file === undefined ? variableProblem(name ?? '', env) : await fileProblem(file)
      return message === undefined ? [] : [{ ...locate(path), path, message }]
    }),
  )
  const missing = problems.flat()
  // A missing file is reported once, not again for its content.
  const isReported = ({ path }: Finding) => missing.some((each) => isWithin(each.path, path))
  const wrong = (await wrongContents(config, env)).filter((finding) => !isReported(finding))
  return [...missing, ...wrong.map(({ path, message }) => ({ ...locate(path), path, message }))]
}

/** Returns every file that a configuration names, each once. */
export function namedFiles(config: Config): string[] {
  return [...new Set(referencesOf(config).flatMap(({ file }) => file ?? []))]
}

function isWithin(path: KeyPath, whole: KeyPath): boolean {
  return whole.every((part, index) => path[index] === part)
}

function referencesOf({ tls, admin, dockerConfig, configs }: Config): Reference[] {
  const references: Reference[] = []
  const add = (path: KeyPath, value: unknown) => {
    if (value instanceof Secret) {
      if (value.source !== '<redacted>') references.push({ path, ...value.source })
    } else if (typeof value === 'string') references.push({ path, file: value })
  }
  add(['tls', 'certFile'], tls?.certFile)
  add(['tls', 'keyFile'], tls?.keyFile)
  add(['admin', 'token'], admin.token)
  for (const [index, file] of dockerConfig.entries()) {
    add(dockerConfig.length === 1 ? ['dockerConfig'] : ['dockerConfig', index], file)
  }
  for (const [host, entry] of Object.entries(configs)) {
    for (const [index, auth] of (entry.auth ?? []).entries()) {
      const at = entry.auth?.length === 1 ? [] : [index]
      for (const key of ['password', 'auth', 'identity_token'] as const) {
        add(['configs', host, 'auth', ...at, key], auth[key])
      }
    }
    for (const key of ['ca_file', 'cert_file', 'key_file'] as const) {
      add(['configs', host, 'tls', key], entry.tls?.[key])
    }
  }
  return references
}

function variableProblem(name: string, env: Environment): string | undefined {
  return env[name] ? undefined : `the environment variable ${name} is not set`
}

async function fileProblem(file: string): Promise<string | undefined> {
  try {
    await access(file, constants.R_OK)
    const found = await stat(file)
    if (found.isDirectory()) return `${file}: it is a directory; name a file`
    return found.isFile()
      ? undefined
      : `${file}: it is not a regular file, so it cannot be read again after a change`
  } catch (error) {
    const tilde = file.startsWith('~') ? '; ~ is not expanded, write the full path' : ''
    return `${file}: ${readFailure(error)}${tilde}`
  }
}
