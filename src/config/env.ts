// Settings from the command line and CHANDLERY_* variables. Both cover the same few settings. A flag
// wins over a variable, a variable over the file, the file over the default.
import type { LogLevel } from './config.ts'
import { type ListenAddress, parseListenAddress } from './listen-address.ts'
import type { Problem } from './problem.ts'
import { LOG_LEVELS } from './schema.ts'
import { suggest } from './suggest.ts'
import { quote, ValueError } from './value-error.ts'

/** The flags of `chandlery serve`; other commands take some of them. */
export interface Flags {
  readonly config?: string
  readonly registries?: string
  readonly listen?: string
  readonly adminListen?: string
  readonly directory?: string
  readonly logLevel?: string
}

export type Environment = Readonly<Record<string, string | undefined>>

/** The variable of each flag. */
export const VARIABLES = {
  config: 'CHANDLERY_CONFIG',
  registries: 'CHANDLERY_REGISTRIES',
  listen: 'CHANDLERY_LISTEN',
  adminListen: 'CHANDLERY_ADMIN_LISTEN',
  directory: 'CHANDLERY_DIRECTORY',
  logLevel: 'CHANDLERY_LOG_LEVEL',
} as const satisfies Record<keyof Flags, `CHANDLERY_${string}`>

/** The name of each flag on the command line. */
export const FLAG_NAMES = {
  config: '--config',
  registries: '--registries',
  listen: '--listen',
  adminListen: '--admin-listen',
  directory: '--directory',
  logLevel: '--log-level',
} as const satisfies Record<keyof Flags, `--${string}`>

/** The checked values of flags and variables; a setting that neither gives is absent. */
export interface Overrides {
  readonly config?: string
  readonly registries?: string
  readonly listen?: ListenAddress
  readonly adminListen?: ListenAddress
  readonly directory?: string
  readonly logLevel?: LogLevel
  readonly problems: readonly Problem[]
}

/** Reads flags and variables; a flag wins. An empty variable counts as not set. */
export function readOverrides(flags: Flags, env: Environment): Overrides {
  const problems: Problem[] = unknownVariables(env)
  const read = <T>(key: keyof Flags, parse: (text: string) => T): Record<string, T> => {
    const flag = flags[key]
    const text = flag ?? (env[VARIABLES[key]] || undefined)
    if (text === undefined) return {}
    try {
      return { [key]: parse(text) }
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      const wrong = { severity: 'error', path: [], message: error.message } as const
      if (flag === undefined) problems.push({ ...wrong, at: VARIABLES[key] })
      else problems.push({ ...wrong, at: FLAG_NAMES[key], isUsage: true })
      return {}
    }
  }
  return {
    ...read('config', checkPath),
    ...read('registries', checkPath),
    ...read('listen', parseListenAddress),
    ...read('adminListen', parseListenAddress),
    ...read('directory', checkPath),
    ...read('logLevel', parseLogLevel),
    problems,
  }
}

function checkPath(text: string): string {
  if (text !== '' && !text.includes('\0')) return text
  throw new ValueError('is empty; write a path')
}

function parseLogLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((each) => each === text)
  if (level) return level
  throw new ValueError(`${quote(text)} is not a log level; write one of ${LOG_LEVELS.join(', ')}`)
}

// Kubernetes sets variables of this form in each pod for every Service of its namespace. Those of a
// Service named chandlery, or chandlery-anything, must not be taken for settings.
const SERVICE_VARIABLE =
  /^CHANDLERY(?:_[A-Z0-9_]+)?_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$/
const SERVICE_URL = /^(?:tcp|udp|sctp):\/\//

function unknownVariables(env: Environment): Problem[] {
  const known = new Set<string>(Object.values(VARIABLES))
  return Object.entries(env)
    .filter(([name]) => name.startsWith('CHANDLERY_') && !known.has(name))
    .filter(([name, value]) => !isFromKubernetes(name, value ?? ''))
    .map(([name]) => {
      const near = name === 'CHANDLERY_PORT' ? VARIABLES.listen : suggest(name, known)
      const hint = near === undefined ? '' : `; did you mean ${near}?`
      const message = `unknown variable, ignored${hint}`
      return { severity: 'warning', at: name, path: [], message }
    })
}

function isFromKubernetes(name: string, value: string): boolean {
  return SERVICE_VARIABLE.test(name) || (name.endsWith('_PORT') && SERVICE_URL.test(value))
}
