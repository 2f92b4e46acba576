// The set of repository names that a rewrite pattern matches, as an automaton. It answers exactly
// whether a pattern matches any name at all, and whether two patterns match a common name, and finds
// such a name as proof.
import { RE2JS } from 're2js'

/** Every character of a repository name. Of characters that behave alike, only the first is tried. */
const SYMBOLS = Array.from('abcdefghijklmnopqrstuvwxyz0123456789/-._', (c) => c.charCodeAt(0))
const END = -1
const MAX_NAME_LENGTH = 255

// The opcodes of re2js's compiled program, an RE2 instruction list (Go's regexp/syntax.Inst). Its type
// in re2js is `any`; a test compares the results of this code with those of re2js.
const OP = { alternative: 1, alternativeMatch: 2, capture: 3, empty: 4, match: 6, nop: 7 } as const
const RUNES = 8
const ANY_RUNE = 10
const EMPTY = {
  beginLine: 1,
  endLine: 2,
  beginText: 4,
  endText: 8,
  boundary: 16,
  inside: 32,
} as const

interface Instruction {
  readonly op: number
  readonly out: number
  readonly arg: number
  matchRune(rune: number): boolean
}

/** The budget of a search. Each instruction visited costs one step. */
export interface Budget {
  steps: number
}

class BudgetSpent extends Error {}

/** A set of names, as a deterministic automaton whose states are created as they are reached. */
interface NameSet {
  readonly start: number
  /** Returns the state after one more character, or -1 if no name can follow. */
  step(state: number, symbol: number, budget: Budget): number
  accepts(state: number, budget: Budget): boolean
  /** Returns the signature of a symbol. Symbols with equal signatures lead to the same states. */
  signature(symbol: number): string
}

/** The names that a pattern matches anywhere in the name, as rewrite rules do. */
export class PatternNames implements NameSet {
  readonly start: number
  readonly #program: { readonly inst: readonly Instruction[]; readonly start: number }
  readonly #states: { threads: readonly number[]; before: number; found: boolean }[] = []
  readonly #numbers = new Map<string, number>()
  readonly #steps = new Map<number, number>()

  /** Throws re2js's error if the pattern is not valid. */
  constructor(pattern: string) {
    this.#program = RE2JS.compile(pattern).re2().prog
    this.start = this.#number([], END, false)
  }

  step(state: number, symbol: number, budget: Budget): number {
    const key = state * 256 + symbol + 1
    const known = this.#steps.get(key)
    if (known !== undefined) return known
    const next = this.#advance(state, symbol, budget)
    this.#steps.set(key, next)
    return next
  }

  accepts(state: number, budget: Budget): boolean {
    return this.#states[this.step(state, END, budget)]?.found ?? false
  }

  signature(symbol: number): string {
    const runes = this.#program.inst.filter(({ op }) => op >= RUNES)
    return `${isWord(symbol)}${runes.map((each) => Number(consumes(each, symbol))).join('')}`
  }

  #advance(state: number, symbol: number, budget: Budget): number {
    const { threads, before, found } = this.#states[state]!
    if (found) return state
    const after: number[] = []
    const pending = [...threads, this.#program.start]
    const seen = new Set(pending)
    const holds = assertions(before, symbol)
    for (let pc = pending.pop(); pc !== undefined; pc = pending.pop()) {
      if ((budget.steps -= 1) < 0) throw new BudgetSpent()
      const instruction = this.#program.inst[pc]!
      if (instruction.op === OP.match) return this.#number([], END, true)
      if (instruction.op >= RUNES) {
        if (symbol !== END && consumes(instruction, symbol)) after.push(instruction.out)
        continue
      }
      for (const next of successors(instruction, holds)) {
        if (!seen.has(next)) pending.push(next)
        seen.add(next)
      }
    }
    return this.#number(after, symbol, false)
  }

  #number(threads: readonly number[], before: number, found: boolean): number {
    const sorted = [...new Set(threads)].toSorted((a, b) => a - b)
    const kind = before === END ? END : Number(isWord(before))
    const key = found ? 'found' : `${kind}:${sorted.join()}`
    const known = this.#numbers.get(key)
    if (known !== undefined) return known
    this.#states.push({ threads: sorted, before, found })
    this.#numbers.set(key, this.#states.length - 1)
    return this.#states.length - 1
  }
}

function consumes(instruction: Instruction, symbol: number): boolean {
  return instruction.op >= ANY_RUNE || instruction.matchRune(symbol)
}

function successors({ op, out, arg }: Instruction, holds: number): readonly number[] {
  if (op === OP.alternative || op === OP.alternativeMatch) return [out, arg]
  if (op === OP.capture || op === OP.nop) return [out]
  return op === OP.empty && (arg & ~holds) === 0 ? [out] : []
}

function assertions(before: number, after: number): number {
  const begin = before === END ? EMPTY.beginLine | EMPTY.beginText : 0
  const end = after === END ? EMPTY.endLine | EMPTY.endText : 0
  return begin | end | (isWord(before) === isWord(after) ? EMPTY.inside : EMPTY.boundary)
}

function isWord(symbol: number): boolean {
  return symbol !== END && /\w/.test(String.fromCharCode(symbol))
}

/**
 * The names that the grammar of repository names allows (distribution-spec, Pull), with at least
 * `components` components. On docker.io a name has two, because `library/` is put before a single one.
 */
class AllNames implements NameSet {
  readonly start = 0
  readonly #components: 1 | 2

  constructor(components: 1 | 2) {
    this.#components = components
  }

  // The low digit of the state is 0 at the start of a component, 1 after a letter or digit, 2 after one
  // _, 3 after a dot or two _, and 4 after dashes. After the first slash, 10 is added.
  step(state: number, symbol: number): number {
    const character = String.fromCharCode(symbol)
    const place = state % 10
    const slash = state - place
    if (/[a-z0-9]/.test(character)) return slash + 1
    if (place === 1 && character === '/') return 10
    if (place === 1 && character === '.') return slash + 3
    if (place === 1 && character === '_') return slash + 2
    if (place === 2 && character === '_') return slash + 3
    return (place === 1 || place === 4) && character === '-' ? slash + 4 : -1
  }

  accepts(state: number): boolean {
    return state === 11 || (state === 1 && this.#components === 1)
  }

  signature(symbol: number): string {
    const character = String.fromCharCode(symbol)
    return /[a-z0-9]/.test(character) ? 'a' : character
  }
}

export interface Names {
  /** The names found, the shortest first. */
  readonly names: readonly string[]
  /** Set if the search was exhaustive: then no other name of up to 255 characters exists. */
  readonly complete: boolean
}

export interface Search {
  readonly matchedBy: readonly PatternNames[]
  readonly notMatchedBy?: readonly PatternNames[]
  readonly components: 1 | 2
  readonly limit: number
  readonly budget: Budget
}

/** Finds repository names that all of `matchedBy` and none of `notMatchedBy` match, shortest first. */
export function findNames(search: Search): Names {
  const names: string[] = []
  try {
    for (const name of walk(search)) {
      names.push(name)
      if (names.length >= search.limit) return { names, complete: false }
    }
    return { names, complete: true }
  } catch (error) {
    if (error instanceof BudgetSpent) return { names, complete: false }
    throw error
  }
}

/** Searches the product of the automata, breadth first. */
function* walk({ matchedBy, notMatchedBy = [], components, budget }: Search): Generator<string> {
  const sets: NameSet[] = [new AllNames(components), ...matchedBy, ...notMatchedBy]
  const wanted = sets.map((_, i) => i <= matchedBy.length)
  const symbols = representatives(sets)
  const start = sets.map((set) => set.start)
  const seen = new Set([start.join()])
  const queue: { name: string; states: readonly number[] }[] = [{ name: '', states: start }]
  for (const { name, states } of queue) {
    if (sets.every((set, i) => set.accepts(states[i]!, budget) === wanted[i])) yield name
    if (name.length >= MAX_NAME_LENGTH) continue
    for (const symbol of symbols) {
      if ((budget.steps -= sets.length) < 0) throw new BudgetSpent()
      if (sets[0]!.step(states[0]!, symbol, budget) < 0) continue
      const next = sets.map((set, i) => set.step(states[i]!, symbol, budget))
      const key = next.join()
      if (seen.has(key)) continue
      seen.add(key)
      queue.push({ name: name + String.fromCharCode(symbol), states: next })
    }
  }
}

function representatives(sets: readonly NameSet[]): number[] {
  const classes = new Map<string, number>()
  for (const symbol of SYMBOLS) {
    const signature = sets.map((set) => set.signature(symbol)).join('|')
    if (!classes.has(signature)) classes.set(signature, symbol)
  }
  return [...classes.values()]
}
