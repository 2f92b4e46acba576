// One YAML file as text, nodes and positions. This module knows the syntax, not the meaning of keys.
import type { Document, LineCounter as Lines, Node, ParsedNode, Scalar, YAMLMap } from 'yaml'
import {
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  visit,
} from 'yaml'
import type { KeyPath, Place, Problem } from './problem.ts'
import { quote } from './value-error.ts'

type Code = Document.Parsed['errors'][number]['code']

/** Limits how far aliases may expand the document: otherwise a few lines could become gigabytes. */
const MAX_ALIASES = 100

export interface YamlOptions {
  /** With 1.1 the file is read as K3s does: `<<` merges, yes and on are true, tags are ignored. */
  readonly version: '1.1' | '1.2'
}

/** The parsed first document of a file. Its syntax errors are in `problems`. */
export class YamlSource {
  readonly file: string
  readonly root: ParsedNode | null
  readonly problems: readonly Problem[]
  readonly documents: number
  readonly #document: Document.Parsed | undefined
  readonly #lines: Lines
  readonly #targets: ReadonlyMap<unknown, Node>

  constructor(file: string, text: string, options: YamlOptions) {
    const lines = new LineCounter()
    const documents = parseAllDocuments(text, {
      version: options.version,
      merge: options.version === '1.1',
      strict: options.version === '1.2',
      stringKeys: options.version === '1.2',
      uniqueKeys: false,
      prettyErrors: false, // they quote the line, and with it perhaps a password
      lineCounter: lines,
      logLevel: 'error',
    })
    this.file = file
    this.#lines = lines
    this.documents = documents.length
    this.#document = 'empty' in documents ? undefined : documents[0]
    this.root = this.#document?.contents ?? null
    this.#targets = aliasTargets(this.#document)
    this.problems = this.#syntaxProblems(options.version === '1.2')
  }

  /** Returns the content as plain values. Throws if aliases expand to too much content. */
  value(): unknown {
    return this.#document?.toJS({ maxAliasCount: MAX_ALIASES }) ?? undefined
  }

  /** Returns the place of the key (or list item) at `path`, or of its nearest parent if it is missing. */
  keyPlace(path: KeyPath): Place {
    return this.#find(path).key
  }

  /** Returns the place of the value at `path`, or of its key if the key has no value. */
  valuePlace(path: KeyPath): Place {
    return this.#find(path).value
  }

  /** Returns the keys of the map at `path` in file order, which a JavaScript object would not keep. */
  keys(path: KeyPath): string[] {
    const { node } = this.#find(path)
    return isMap(node) ? node.items.map(({ key }) => keyText(key)) : []
  }

  place(offset: number): Place {
    const { line, col } = this.#lines.linePos(offset)
    return { file: this.file, line: Math.max(line, 1), column: Math.max(col, 1) }
  }

  /** Returns the node that an alias stands for; any other node is returned as it is. */
  resolve(node: unknown): unknown {
    return isAlias(node) ? this.#targets.get(node) : node
  }

  #find(path: KeyPath): { key: Place; value: Place; node: unknown } {
    let node: unknown = this.root
    let key = this.place(startOf(node) ?? 0)
    let value = key
    for (const part of path) {
      const found = child(this.resolve(node), part)
      if (!found) return { key, value, node: undefined }
      const at = startOf(found.key) ?? startOf(found.value)
      if (at !== undefined) key = this.place(at)
      const start = isEmptyScalar(found.value) ? undefined : startOf(found.value)
      value = start === undefined ? key : this.place(start)
      node = found.value
    }
    return { key, value, node: this.resolve(node) }
  }

  #syntaxProblems(strict: boolean): Problem[] {
    const document = this.#document
    if (!document) return []
    const found = strict ? [...document.errors, ...document.warnings] : document.errors
    const problems = found.map(({ pos, code }) => this.#error(pos[0], [], SYNTAX[code]))
    if (strict && this.documents > 1) {
      problems.push(this.#error(document.range[2], [], 'a second document begins here; keep one'))
    }
    return strict ? [...problems, ...this.#keyProblems(document)] : problems
  }

  #keyProblems(document: Document.Parsed): Problem[] {
    const problems: Problem[] = []
    visit(document, {
      Alias: (_, alias) => {
        if (this.#targets.has(alias)) return
        problems.push(this.#error(startOf(alias) ?? 0, [], SYNTAX.BAD_ALIAS))
      },
      Map: (_, map, ancestors) => {
        const seen = new Map<string, Place>()
        for (const { key } of map.items) {
          const name = keyText(key)
          const at = this.place(startOf(key) ?? 0)
          const path = [...pathOf([...ancestors, map]), name]
          const first = seen.get(name)
          if (first) problems.push({ ...duplicate(first), at, path })
          else seen.set(name, at)
          if (name === '__proto__') {
            problems.push({ severity: 'error', at, path, message: 'cannot be a key' })
          }
        }
      },
    })
    return problems
  }

  #error(offset: number, path: KeyPath, message: string): Problem {
    return { severity: 'error', at: this.place(offset), path, message }
  }
}

/** Maps each alias to the node it stands for: the nearest earlier anchor of its name. */
function aliasTargets(document: Document.Parsed | undefined): Map<unknown, Node> {
  const anchors = new Map<string, Node>()
  const targets = new Map<unknown, Node>()
  if (!document) return targets
  visit(document, {
    Node: (_, node) => {
      if (isAlias(node)) {
        const target = anchors.get(node.source)
        if (target) targets.set(node, target)
      } else if (node.anchor !== undefined) anchors.set(node.anchor, node)
    },
  })
  return targets
}

/** Returns the text of a key as written, whatever type YAML gives it. */
export function keyText(key: unknown): string {
  if (!isScalar(key)) return ''
  return scalarText(key)
}

/** Returns the text of a scalar as written: `012` and `yes` stay as they are. */
export function scalarText(scalar: Scalar): string {
  if (scalar.source !== undefined) return scalar.source
  return typeof scalar.value === 'string' ? scalar.value : ''
}

/** Returns the offset at which a node begins, or undefined for anything that is not a node. */
export function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined
}

function child(node: unknown, part: string | number): { key: unknown; value: unknown } | undefined {
  if (isSeq(node) && typeof part === 'number') {
    return part in node.items ? { key: undefined, value: node.items[part] } : undefined
  }
  return isMap(node) ? lastPair(node, String(part)) : undefined
}

function lastPair(map: YAMLMap, name: string): { key: unknown; value: unknown } | undefined {
  return map.items.findLast(({ key }) => keyText(key) === name)
}

function isEmptyScalar(node: unknown): boolean {
  return isScalar(node) && node.value === null && !node.source
}

/** Returns the path of the last of these nested nodes. */
function pathOf(ancestors: readonly unknown[]): KeyPath {
  const path: (string | number)[] = []
  for (const [i, node] of ancestors.entries()) {
    const next = ancestors[i + 1]
    if (isSeq(node)) path.push(node.items.indexOf(next))
    else if (next !== undefined && isPairLike(next)) path.push(keyText(next.key))
  }
  return path
}

function isPairLike(node: unknown): node is { key: unknown } {
  return typeof node === 'object' && node !== null && 'key' in node && 'value' in node
}

function duplicate(first: Place): Pick<Problem, 'severity' | 'message'> {
  return { severity: 'error', message: `given twice, first on line ${first.line}; keep one` }
}

const QUOTING = 'put values with special characters in quotes'

// A message for each code. The library's own messages quote the file, and with it perhaps a password.
const SYNTAX: Record<Code, string> = {
  ALIAS_PROPS: 'an alias (*name) cannot have an anchor or a tag',
  BAD_ALIAS: `there is no anchor for this alias; ${quote('*')} begins an alias: ${QUOTING}`,
  BAD_COLLECTION_TYPE: 'the tag does not match the value after it; leave it out',
  BAD_DIRECTIVE: 'unknown directive; remove lines that begin with %',
  BAD_DQ_ESCAPE: 'unknown escape in a double-quoted value; write \\\\ or use single quotes',
  BAD_INDENT: 'the indentation does not match the lines above, or a bracket is not closed',
  BAD_PROP_ORDER: 'an anchor or a tag is in the wrong place',
  BAD_SCALAR_START: `a plain value cannot begin with this character: ${QUOTING}`,
  BLOCK_AS_IMPLICIT_KEY:
    'a nested map cannot begin on this line; put it on the next line, indented, or put the value in quotes',
  BLOCK_IN_FLOW: 'an indented map or list cannot be inside {} or []',
  DUPLICATE_KEY: 'given twice; keep one',
  IMPOSSIBLE: 'not YAML',
  KEY_OVER_1024_CHARS: 'a key is at most 1024 characters long',
  MISSING_CHAR: `a character is missing here: a closing quote, bracket, comma or the space after ${quote(':')}`,
  MULTILINE_IMPLICIT_KEY: `a key must be on one line and end with ${quote(':')}; is the ${quote(':')} missing?`,
  MULTIPLE_ANCHORS: 'a value has at most one anchor',
  MULTIPLE_DOCS: 'a second document begins here; keep one',
  MULTIPLE_TAGS: 'a value has at most one tag',
  NON_STRING_KEY: 'a key must be a plain string',
  RESOURCE_EXHAUSTION: 'nested too deeply',
  TAB_AS_INDENT: 'tabs cannot be used for indentation; use spaces',
  TAG_RESOLVE_FAILED: `unknown tag; ${quote('!')} begins a tag: ${QUOTING}`,
  UNEXPECTED_TOKEN: `unexpected text; ${QUOTING}`,
}
