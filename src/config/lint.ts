// Finds rewrite rules that are valid but hardly do what was meant. Every warning is proved before it
// is given: by a name as an example, or by an exhaustive search of an automaton.
import { isRepositoryName } from '../oci/reference.ts'
import { replacementReferences, rewriteName } from '../upstream/routing/rewrite.ts'
import type { ConfiguredRewrite, Mirror } from './config.ts'
import type { KeyPath, Problem } from './problem.ts'
import { type Budget, findNames, PatternNames } from './rewrite-language.ts'
import { quote } from './value-error.ts'

/** The search budget of all rules of one mirror; about a second at worst. */
const BUDGET_STEPS = 5_000_000
const SAMPLES = 24

interface LintedRule extends ConfiguredRewrite {
  readonly path: KeyPath
  readonly matched: PatternNames
}

/** Returns the problems of all rewrite rules, in file order. */
export function lintRewrites(mirrors: readonly Mirror[]): Problem[] {
  return mirrors.flatMap(lintMirror)
}

function lintMirror(mirror: Mirror): Problem[] {
  const problems: Problem[] = []
  const rules = mirror.rewrites.map((rule): LintedRule => {
    const { pattern } = rule.rewrite
    const path = ['mirrors', mirror.registry, 'rewrite', pattern]
    return { ...rule, path, matched: new PatternNames(pattern) }
  })
  problems.push(...withoutEndpoint(mirror))
  const budget = { steps: BUDGET_STEPS }
  const components = mirror.registry === 'docker.io' ? 2 : 1
  for (const [i, rule] of rules.entries()) {
    problems.push(...missingGroups(rule))
    const useless = neverMatches(rule, mirror.registry, components, budget)
    if (useless) problems.push(useless)
    else {
      problems.push(...namesRegistry(rule, mirror.registry))
      problems.push(...invalidResult(rule, components, budget))
      problems.push(...overlaps(rule, rules.slice(0, i), components, budget))
    }
  }
  return problems
}

function withoutEndpoint({ registry, endpoints, rewrites, place }: Mirror): Problem[] {
  const [first] = rewrites
  if (!first || endpoints.length > 0) return []
  const message =
    "there are rules but no endpoint: rules never apply to the registry's own endpoint; add endpoint"
  const at = first.place ?? place ?? ''
  return [{ severity: 'warning', at, path: ['mirrors', registry, 'rewrite'], message }]
}

/** Reports `$3` or `${name}` if the pattern has no such group: Go inserts nothing for it. */
function missingGroups(rule: LintedRule): Problem[] {
  const { groupCount, groupNames } = rule.rewrite
  return replacementReferences(rule.rewrite.replacement)
    .filter((reference) => {
      if (/^(?:0|[1-9]\d*)$/.test(reference)) return Number(reference) > groupCount
      return !groupNames.includes(reference)
    })
    .map((reference) => warning(rule, missingGroupMessage(reference, groupCount)))
}

function missingGroupMessage(reference: string, groupCount: number): string {
  const meant = /^(\d+)(\D\w*)$/.exec(reference)
  const why = `the pattern has no group ${quote(reference)}, so nothing is inserted`
  if (meant)
    return `${why}; write \${${meant[1]}}${meant[2]} for group ${meant[1]} followed by text`
  if (/^\d+$/.test(reference)) return `${why}; it has ${groupCount === 0 ? 'none' : groupCount}`
  return `${why}; name one (?P<${reference}>…), or write $$ for a dollar sign`
}

function neverMatches(
  rule: LintedRule,
  registry: string,
  components: 1 | 2,
  budget: Budget,
): Problem | undefined {
  const search = { matchedBy: [rule.matched], limit: 1, budget }
  const { names, complete } = findNames({ ...search, components })
  if (names.length > 0 || !complete) return undefined
  const single = components === 2 && findNames({ ...search, components: 1 }).names.length > 0
  return warning(rule, `can never match: ${single ? IMPLICIT_LIBRARY : neverHint(rule, registry)}`)
}

const IMPLICIT_LIBRARY =
  'on docker.io a name of one component gets the prefix library/ before rules are applied'

function neverHint({ rewrite: { pattern } }: LintedRule, registry: string): string {
  const about = "a rule sees the repository's name, such as library/alpine"
  if (registry !== '*' && pattern.includes(registry)) return `${about}; leave the registry out`
  if (/[:@]/.test(pattern.replaceAll(/\(\?[^)]*:|\[\[?:\^?\w+:\]|:\]/g, ''))) {
    return `${about}, without registry, tag and digest`
  }
  if (/[A-Z]/.test(pattern.replaceAll(/\\[a-zA-Z]|\(\?P?<\w+>/g, ''))) {
    return `${about}, always in lower case`
  }
  return `${about}, and no name has this form`
}

/** Reports a pattern such as `^docker\.io/…`: it can match, but is surely not what was meant. */
function namesRegistry(rule: LintedRule, registry: string): Problem[] {
  const plain = rule.rewrite.pattern.replace(/^(?:\^|\\A)?\(?/, '').replaceAll('\\', '')
  if (registry === '*' || !plain.startsWith(`${registry}/`)) return []
  return [
    warning(rule, `begins with the registry: a rule sees only the name; leave ${registry}/ out`),
  ]
}

function invalidResult(rule: LintedRule, components: 1 | 2, budget: Budget): Problem[] {
  const { names } = findNames({ matchedBy: [rule.matched], components, limit: SAMPLES, budget })
  const example = names.find((name) => !isRepositoryName(rule.rewrite.apply(name)))
  if (example === undefined) return []
  const result = rule.rewrite.apply(example)
  const message = `${quote(example)} would become ${quote(result)}, which is not a valid name, so the rule is skipped for it; a name is lower-case components separated by slashes`
  return [warning(rule, message)]
}

function overlaps(
  rule: LintedRule,
  earlier: readonly LintedRule[],
  components: 1 | 2,
  budget: Budget,
): Problem[] {
  for (const other of earlier) {
    const example = sharedName(rule, other, components, budget)
    if (example === undefined) continue
    const { names, complete } = findNames({
      matchedBy: [rule.matched],
      notMatchedBy: [other.matched],
      components,
      limit: 1,
      budget,
    })
    const covered = names.length === 0 && complete
    return [warning(rule, overlapMessage(other, example, covered))]
  }
  return []
}

/** Returns a name that both rules would rewrite, with different results. */
function sharedName(
  rule: LintedRule,
  other: LintedRule,
  components: 1 | 2,
  budget: Budget,
): string | undefined {
  const matchedBy = [rule.matched, other.matched]
  const { names } = findNames({ matchedBy, components, limit: SAMPLES, budget })
  return names.find((name) => {
    const [one, two] = [rewriteName([rule.rewrite], name), rewriteName([other.rewrite], name)]
    return one.rule && two.rule && one.name !== two.name
  })
}

function overlapMessage(other: LintedRule, example: string, covered: boolean): string {
  const first = `${quote(other.rewrite.pattern)}${other.place ? ` on line ${other.place.line}` : ''}`
  if (covered) {
    return `comes too late: every name it matches, such as ${quote(example)}, is matched by ${first}, which is tried first; put this rule before it`
  }
  return `overlaps with ${first}: both rewrite ${quote(example)}, and the earlier one wins (K3s would pick either)`
}

function warning({ place, path }: LintedRule, message: string): Problem {
  return { severity: 'warning', at: place ?? '', path, message }
}
