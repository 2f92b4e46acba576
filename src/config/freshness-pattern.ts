// The grammar of freshness.rules[].match. The cache does the matching.
import { quote, ValueError } from './value-error.ts'

const REPOSITORY = /^[a-z0-9._:*-]+(?:\/[a-z0-9._*-]+)*$/
const TAG = /^[A-Za-z0-9._*-]{1,128}$/

/**
 * Checks a pattern: `[registry/]repository[:tag]` with `*` (within a component) and `**` (across
 * components). Returns it unchanged; throws ValueError if it is not a pattern.
 */
export function checkFreshnessPattern(text: string): string {
  const colon = text.lastIndexOf(':')
  const hasTag = colon > text.lastIndexOf('/')
  const repository = hasTag ? text.slice(0, colon) : text
  if (text.includes('@')) throw wrong(text, 'leave the digest out: a digest never goes stale')
  if (hasTag && !TAG.test(text.slice(colon + 1)))
    throw wrong(text, 'the part after ":" is not a tag')
  if (/[A-Z]/.test(repository)) throw wrong(text, 'repository names are lower-case')
  if (!REPOSITORY.test(repository)) {
    throw wrong(
      text,
      'write registry/repository:tag with * and **, such as docker.io/library/*:latest',
    )
  }
  return text
}

function wrong(text: string, why: string): ValueError {
  return new ValueError(`${quote(text)} is not a pattern; ${why}`)
}
