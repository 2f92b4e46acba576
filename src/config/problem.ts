// What is wrong with a configuration, where, and how it is printed: one line each.
import { quote } from './value-error.ts'

/** A place in a file; line and column count from 1. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly column: number
}

/** A key's path from the root: map keys and list indexes. */
export type KeyPath = readonly (string | number)[]

export interface Problem {
  readonly severity: 'error' | 'warning'
  /** Where: a place in a file, a whole file, or what else was read ("--listen"). */
  readonly at: Place | string
  readonly path: KeyPath
  /** What is wrong and what would be right; never holds a secret. */
  readonly message: string
  /** It is the command line that is wrong: a flag's value. */
  readonly isUsage?: true
}

/** Everything that is wrong, not only the first; the message holds a line for each. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly problems: readonly Problem[]
  /** Every file that was looked at: the cure may be a change of any. */
  readonly files: readonly string[]

  constructor(problems: readonly Problem[], files: readonly string[] = []) {
    super(problems.map(formatProblem).join('\n'))
    this.problems = problems
    this.files = files
  }

  /** Whether the command line is among what is wrong. */
  get isUsage(): boolean {
    return this.problems.some(({ isUsage }) => isUsage === true)
  }
}

/** `file:line:column key.path: message`, with `warning: ` before a warning's message. */
export function formatProblem({ severity, at, path, message }: Problem): string {
  const where = typeof at === 'string' ? at : `${at.file}:${at.line}:${at.column}`
  const head = path.length > 0 ? `${where} ${formatPath(path)}` : where
  return `${head}: ${severity === 'warning' ? 'warning: ' : ''}${message}`
}

/** `mirrors."docker.io".endpoint[0]`: keys with anything but letters, digits, - and _ in quotes. */
export function formatPath(path: KeyPath): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else text += `${text && '.'}${/^[\w-]+$/.test(part) ? part : quote(part)}`
  }
  return text
}

/** By file, then place; what has no place comes first. */
export function inReadingOrder(problems: readonly Problem[]): Problem[] {
  return problems.toSorted((a, b) => {
    if (typeof a.at === 'string' || typeof b.at === 'string') {
      return Number(typeof a.at !== 'string') - Number(typeof b.at !== 'string')
    }
    if (a.at.file !== b.at.file) return a.at.file < b.at.file ? -1 : 1
    return a.at.line - b.at.line || a.at.column - b.at.column
  })
}
