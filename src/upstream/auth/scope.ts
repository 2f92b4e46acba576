// Which scopes a token is asked for (distribution's token specification; protocol.md B2, B3): pure.

/**
 * Exactly what the challenge names, but never another repository than the one asked for: where it
 * names none, or a placeholder as ghcr.io does, `repository:<name>:pull`. `name` is what stood in
 * the request that was challenged. Strict token servers refuse a request with one scope too many.
 */
export function scopesFor(challenged: string | undefined, name: string): string[] {
  const asked = [...new Set((challenged ?? '').split(/\s+/).filter((scope) => scope !== ''))]
  const wanted = asked.filter((scope) => isAbout(scope, name))
  const isPlaceholder = asked.length > wanted.length && !wanted.some(isRepository)
  if (wanted.length === 0 || isPlaceholder) wanted.push(`repository:${name}:pull`)
  return wanted
}

/** Scopes of other types (public.ecr.aws asks for `aws`) are the registry's own affair. */
function isAbout(scope: string, name: string): boolean {
  const asked = repositoryOf(scope)
  if (asked === undefined) return true
  // A registry behind a path prefix may know its repositories without it, or with more of it.
  return asked === name || name.endsWith(`/${asked}`) || asked.endsWith(`/${name}`)
}

function isRepository(scope: string): boolean {
  return repositoryOf(scope) !== undefined
}

/** `type[(class)]:name:actions`; the name may hold a port, so the first and the last colon decide. */
function repositoryOf(scope: string): string | undefined {
  return /^repository(?:\([^)]*\))?:(.*):[^:]*$/.exec(scope)?.[1]
}
