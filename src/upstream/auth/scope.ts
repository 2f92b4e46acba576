// Which scopes a token is requested for (distribution's token specification). Pure.

/**
 * Returns exactly the scopes that the challenge names, but never another repository than the one that
 * was asked for. If it names none, or a placeholder as ghcr.io does: `repository:<name>:pull`. `name`
 * is the name in the request that was challenged. Strict token servers refuse superfluous scopes.
 */
export function scopesFor(challenged: string | undefined, name: string): string[] {
  const asked = [...new Set((challenged ?? '').split(/\s+/).filter((scope) => scope !== ''))]
  const wanted = asked.filter((scope) => isAbout(scope, name))
  const isPlaceholder = asked.length > wanted.length && !wanted.some(isRepository)
  if (wanted.length === 0 || isPlaceholder) wanted.push(`repository:${name}:pull`)
  return wanted
}

/** Scopes of other types are passed on as they are: public.ecr.aws names `aws`. */
function isAbout(scope: string, name: string): boolean {
  const asked = repositoryOf(scope)
  if (asked === undefined) return true
  // A registry behind a path prefix may name its repositories without the prefix, or with a longer one.
  return asked === name || name.endsWith(`/${asked}`) || asked.endsWith(`/${name}`)
}

function isRepository(scope: string): boolean {
  return repositoryOf(scope) !== undefined
}

/**
 * Parses `type[(class)]:name:actions` at the first and the last colon: the name may hold a port.
 */
function repositoryOf(scope: string): string | undefined {
  return /^repository(?:\([^)]*\))?:(.*):[^:]*$/.exec(scope)?.[1]
}
