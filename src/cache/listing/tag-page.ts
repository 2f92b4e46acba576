// Fills one page of an upstream's tags up to the size that the client wants. Registries cap their pages
// and omit tags that they do not list, but clients take a short page for the last one.
import { parsePage } from './page.ts'
import type { TagPage } from '../../upstream/face/answers.ts'

const MAX_PAGES = 20
const MAX_TAGS = 100_000
/** After this the page is returned as it is: clients have time limits of their own. */
const ENOUGH_MS = 5_000

/**
 * Returns the page of `query` with as many of the following pages as fit into its `n`; without `n`, the
 * page as the upstream cuts it. Throws what `ask` throws for the first page.
 */
export async function fillPage(
  query: string,
  ask: (query: string) => Promise<TagPage>,
): Promise<TagPage> {
  const startedAt = performance.now()
  let page = await ask(query)
  const { n } = parsePage(query)
  if (n === undefined) return page
  for (let pages = 1; pages < MAX_PAGES && page.next !== undefined; pages++) {
    const missing = Math.min(n, MAX_TAGS) - page.tags.length
    if (missing <= 0 || performance.now() - startedAt > ENOUGH_MS) break
    const more = await following(page.next, missing, ask)
    // If the upstream sends more than was asked for, no query names the rest: leave that page out.
    if (more === undefined || more.tags.length > missing) break
    page = { ...more, tags: [...page.tags, ...more.tags] }
  }
  return page.next === undefined ? page : { ...page, next: withSize(page.next, n) }
}

/** Returns the next page, or undefined if it fails: the tags that are there already are better than an error. */
async function following(
  query: string,
  missing: number,
  ask: (query: string) => Promise<TagPage>,
): Promise<TagPage | undefined> {
  const next = withSize(query, missing)
  const more = await ask(next).catch(() => undefined)
  return more?.next !== undefined && withSize(more.next, missing) === next ? undefined : more
}

/** Returns the query with another `n`; everything else stays as it was written. */
function withSize(query: string, n: number): string {
  const others = query.split('&').filter((part) => part !== '' && !/^n(=|$)/.test(part))
  return [`n=${n}`, ...others].join('&')
}
