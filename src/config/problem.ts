// Problems of a configuration: what is wrong, where, and the line that is printed for it.
import { quote } from './value-error.ts'

/** A place in a file. Lines and columns count from 1. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly column: number
}

/** The path of a key from the root: map keys and list indexes. */
export type KeyPath = readonly (string | number)[]

export interface Problem {
  readonly severity: 'error' | 'warning'
  /** The place in a file, or the name of a file, flag or variable, such as "--listen". */
  readonly at: Place | string
  readonly path: KeyPath
  /** Says what is wrong and what would be right. Never holds a secret. */
  readonly message: string
  /** Set if the value of a flag is wrong, and so the command line. */
  readonly isUsage?: true
}

/** Everything that is wrong with a configuration. The message has a line for each problem. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly problems: readonly Problem[]
  /** Every file that was read, or that should have been: a change of any may be the cure. */
  readonly files: readonly string[]

  constructor(problems: readonly Problem[], files: readonly string[] = []) {
    super(problems.map(formatProblem).join('\n'))
    this.problems = problems
    this.files = files
  }

  /** Reports whether the command line is part of what is wrong. */
  get isUsage(): boolean {
    return this.problems.some(({ isUsage }) => isUsage === true)
  }
}

/**
 * Formats a problem as `file:line:column key.path: message`. The message of a warning starts with
 * `warning: `.
 */
export function formatProblem({ severity, at, path, message }: Problem): string {
  const where = typeof at === 'string' ? at : `${at.file}:${at.line}:${at.column}`
  const head = path.length > 0 ? `${where} ${formatPath(path)}` : where
  return `${head}: ${severity === 'warning' ? 'warning: ' : ''}${message}`
}

/**
 * Formats a path, such as `mirrors."docker.io".endpoint[0]`. Keys with characters other than letters,
 * digits, - and _ are quoted.
 */
export function formatPath(path: KeyPath): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else text += `${text && '.'}${/^[\w-]+$/.test(part) ? part : quote(part)}`
  }
  return text
}

/** Sorts problems by file, then by place; those without a place come first. */
export function inReadingOrder(problems: readonly Problem[]): Problem[] {
  return problems.toSorted((a, b) => {
    if (typeof a.at === 'string' || typeof b.at === 'string') {
      return Number(typeof a.at !== 'string') - Number(typeof b.at !== 'string')
    }
    if (a.at.file !== b.at.file) return a.at.file < b.at.file ? -1 : 1
    return a.at.line - b.at.line || a.at.column - b.at.column
  })
}
