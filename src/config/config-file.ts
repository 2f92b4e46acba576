// Reads Chandlery's own configuration file, strictly: text in; content, and every problem with its
// place, out.
import type { z } from 'zod'
import { normaliseRegistry } from '../oci/reference.ts'
import type { KeyPath, Place, Problem } from './problem.ts'
import { type FileContent, fileSchema } from './schema.ts'
import { shownKey, unknownKeyMessage } from './unknown-key.ts'
import { YamlSource } from './yaml-source.ts'

export interface ConfigFile {
  /** Undefined if the problems leave no content to work with. */
  readonly content: FileContent | undefined
  readonly source: YamlSource
  readonly problems: readonly Problem[]
}

/** Reads a configuration from its text. Messages call it `file`. */
export function readConfigFile(file: string, text: string): ConfigFile {
  const source = new YamlSource(file, text, { version: '1.2' })
  // After a syntax error the rest of the document is a guess, and problems with its keys would mislead.
  const broken = source.problems.some(({ path }) => path.length === 0)
  if (broken) return { content: undefined, source, problems: source.problems }
  const plain = plainValue(source)
  if ('problem' in plain) return { content: undefined, source, problems: [plain.problem] }
  const result = fileSchema.safeParse(plain.value, PARSING)
  const issues = (result.error?.issues ?? []).flatMap((issue) => [
    issue,
    ...belowBadKey(issue, plain.value),
  ])
  const found = issues.flatMap((issue) => toProblems(issue, source))
  const problems = [...source.problems, ...found, ...sameHostTwice(source)]
  return { content: result.data, source, problems }
}

function plainValue(source: YamlSource): { value: unknown } | { problem: Problem } {
  try {
    return { value: source.value() ?? {} }
  } catch {
    const message = 'aliases (*name) expand to too much content; write it out'
    const at = source.valuePlace([])
    return { problem: { severity: 'error', at, path: [], message } }
  }
}

// The messages for values whose schema has no message of its own.
const wording: z.core.$ZodErrorMap = (issue) => {
  if (issue.code === 'invalid_type') {
    return issue.input === undefined ? 'is missing' : `expected ${issue.expected}`
  }
  if (issue.code === 'too_small') return 'is empty'
  return undefined
}

const PARSING = { error: wording, reportInput: true }

type Issue = z.core.$ZodIssue

/** Returns the problems inside an entry whose key is not a host: zod does not check its value. */
function belowBadKey({ code, path }: Issue, content: unknown): Issue[] {
  const [section, key] = path
  if (code !== 'invalid_key' || section === undefined || key === undefined) return []
  const entry = member(member(content, section), key)
  const result = fileSchema.safeParse({ [section]: { '*': entry } }, PARSING)
  return (result.error?.issues ?? []).map((each) => ({
    ...each,
    path: [section, key, ...each.path.slice(2)],
  }))
}

function member(value: unknown, key: PropertyKey): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined
}

function toProblems(issue: Issue, source: YamlSource): Problem[] {
  const path = keyPath(issue)
  if (issue.code === 'unrecognized_keys') {
    const keys = issue.keys.filter((key) => key !== '__proto__') // reported with the syntax
    return keys.map((key) => {
      const message = unknownKeyMessage(path, key)
      return error(source.keyPlace([...path, key]), [...path, shownKey(key)], message)
    })
  }
  if (issue.code === 'invalid_key') {
    return [error(source.keyPlace(path), path, issue.issues[0]?.message ?? issue.message)]
  }
  if (issue.code === 'invalid_union') {
    const inner = innerIssues(issue)
    return inner?.flatMap((each) => toProblems(each, source)) ?? unionProblems(issue, source)
  }
  const isAboutKey = issue.code === 'custom' && issue.params?.['at'] === 'key'
  const at = isAboutKey || isMissing(issue) ? source.keyPlace(path) : source.valuePlace(path)
  return [error(at, path, isMissing(issue) ? missingMessage(issue.message) : issue.message)]
}

/** Returns the path of an issue. Zod allows symbols in it, YAML has none. */
function keyPath({ path }: Issue): KeyPath {
  return path.map((part) => (typeof part === 'symbol' ? String(part) : part))
}

/**
 * Returns the issues of the alternative whose type matches the value, or undefined if none does.
 * A union with a message of its own has none: its message covers all alternatives.
 */
function innerIssues(issue: z.core.$ZodIssueInvalidUnion): Issue[] | undefined {
  if (issue.message !== UNWORDED) return undefined
  const isOther = (each: Issue) => each.code === 'invalid_type' && each.path.length === 0
  const meant = issue.errors.find((issues) => !issues.some(isOther))
  return meant?.map((each) => ({ ...each, path: [...issue.path, ...each.path] }))
}

/** Zod's message for a union that has no message of its own. */
const UNWORDED = 'Invalid input'

/**
 * Returns the one problem to report for a union: the message of an alternative whose own check
 * failed, as that one got furthest; otherwise the union's message; otherwise the first alternative's.
 */
function unionProblems(issue: z.core.$ZodIssueInvalidUnion, source: YamlSource): Problem[] {
  const path = keyPath(issue)
  const all = issue.errors.flat()
  const own = issue.message === UNWORDED ? all[0] : issue
  const reported = all.find(({ code }) => code === 'custom') ?? own ?? issue
  return [error(source.valuePlace(path), path, reported.message)]
}

function isMissing(issue: Issue): boolean {
  return issue.code === 'invalid_type' && issue.input === undefined
}

function missingMessage(message: string): string {
  return message.startsWith('expected') ? `is missing; ${message}` : message
}

/** Reports keys that are spelled differently but mean one host: `Docker.io` and `docker.io`. */
function sameHostTwice(source: YamlSource): Problem[] {
  const problems: Problem[] = []
  for (const section of ['mirrors', 'configs'] as const) {
    const seen = new Map<string, { key: string; at: Place }>()
    for (const key of source.keys([section])) {
      const path = [section, key]
      const name = section === 'mirrors' ? normaliseRegistry(key) : key.toLowerCase()
      const first = seen.get(name)
      if (first && first.key !== key) {
        const message = `is the same as ${first.key} on line ${first.at.line}; keep one`
        problems.push(error(source.keyPlace(path), path, message))
      } else seen.set(name, { key, at: source.keyPlace(path) })
    }
  }
  return problems
}

function error(at: Place, path: KeyPath, message: string): Problem {
  return { severity: 'error', at, path, message }
}
