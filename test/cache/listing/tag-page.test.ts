import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fillPage } from '../../../src/cache/listing/tag-page.ts'

/** An upstream that gives `size` tags a page whatever `n` says, and no more than `n` if it obeys. */
function upstreamOf(tags: readonly string[], size: number, obeys: boolean) {
  const asked: string[] = []
  const ask = (query: string) => {
    asked.push(query)
    const params = new URLSearchParams(query)
    const n = Math.min(size, obeys ? Number(params.get('n') ?? Infinity) : Infinity)
    const from = Number(params.get('from') ?? 0)
    const page = { tags: tags.slice(from, from + n) }
    const next = from + n < tags.length ? `from=${from + n}&n=${params.get('n')}` : undefined
    return Promise.resolve(next === undefined ? page : { ...page, next })
  }
  return { ask, asked }
}

describe('fillPage', () => {
  it('gives every tag once, in pages of n, however the upstream pages', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 60 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 20 }),
        async (count, size, n) => {
          const tags = Array.from({ length: count }, (_, i) => `t${i}`)
          const { ask } = upstreamOf(tags, size, true)
          const seen: string[] = []
          let query: string | undefined = `n=${n}`
          while (query !== undefined) {
            const page = await fillPage(query, ask)
            expect(page.tags.length).toBe(Math.min(n, count - seen.length))
            seen.push(...page.tags)
            query = page.next
          }
          expect(seen).toEqual(tags)
        },
      ),
    )
  })

  it('never gives more than n tags of an upstream that ignores it, and loses none', async () => {
    const { ask } = upstreamOf(['a', 'b', 'c', 'd', 'e'], 2, false)
    const first = await fillPage('n=3', ask)
    expect(first).toEqual({ tags: ['a', 'b'], next: 'n=3&from=2' })
  })

  it('leaves pages alone where the client wants no number', async () => {
    const { ask, asked } = upstreamOf(['a', 'b', 'c'], 2, true)
    expect((await fillPage('', ask)).tags).toEqual(['a', 'b'])
    expect(asked).toEqual([''])
  })

  it('ends with an upstream that leads in circles or gives empty pages for ever', async () => {
    let asked = 0
    const circle = (query: string) => {
      asked++
      return Promise.resolve({ tags: ['a'], next: query })
    }
    expect((await fillPage('n=1000', circle)).tags.length).toBeLessThan(3)
    const empty = () => Promise.resolve({ tags: [], next: `from=${asked++}` })
    asked = 0
    await fillPage('n=10', empty)
    expect(asked).toBe(20)
  })

  it('throws the error of the first page', async () => {
    await expect(fillPage('n=2', () => Promise.reject(new Error('x')))).rejects.toThrow('x')
  })
})
