import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Coalescer } from '../../../src/cache/flight/coalescer.ts'

describe('Coalescer', () => {
  it('runs one piece of work for all who ask while it runs, and gives all the same', async () => {
    const coalescer = new Coalescer<object>()
    const gate = Promise.withResolvers<object>()
    let runs = 0
    const flights = [1, 2, 3].map(() =>
      coalescer.run('key', () => {
        runs++
        return gate.promise
      }),
    )
    gate.resolve({})
    const results = await Promise.all(flights.map((flight) => flight.promise))
    expect(runs).toBe(1)
    expect(new Set(results).size).toBe(1)
    expect(flights.map((flight) => flight.joined)).toEqual([false, true, true])
  })

  it('gives every waiter the failure, not only the first', async () => {
    const coalescer = new Coalescer<never>()
    const failure = new Error('upstream is down')
    const flights = [1, 2, 3].map(() => coalescer.run('key', () => Promise.reject(failure)))
    const outcomes = await Promise.allSettled(flights.map((flight) => flight.promise))
    expect(outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason)).toEqual([
      failure,
      failure,
      failure,
    ])
  })

  it('forgets the key when the work has settled, also when it threw at once', async () => {
    const coalescer = new Coalescer<number>()
    const thrown = coalescer.run('key', () => {
      throw new Error('at once')
    })
    await expect(thrown.promise).rejects.toThrow('at once')
    expect(coalescer.size).toBe(0)
    const again = coalescer.run('key', async () => 2)
    expect(again.joined).toBe(false)
    expect(await again.promise).toBe(2)
    expect(coalescer.has('key')).toBe(false)
  })

  it('keeps the work of different keys apart', async () => {
    const coalescer = new Coalescer<string>()
    const a = coalescer.run('a', async () => 'of a')
    const b = coalescer.run('b', async () => 'of b')
    expect(await Promise.all([a.promise, b.promise])).toEqual(['of a', 'of b'])
  })

  it('does not crash the process by a failure that nobody waits for any more', async () => {
    const unhandled: unknown[] = []
    const note = (error: unknown): void => void unhandled.push(error)
    process.on('unhandledRejection', note)
    new Coalescer<never>().run('key', () => Promise.reject(new Error('alone')))
    // Node tells of it at the end of the turn.
    await setImmediate()
    process.off('unhandledRejection', note)
    expect(unhandled).toEqual([])
  })

  it('reports when the work was started', async () => {
    let now = 5
    const coalescer = new Coalescer<number>(() => now)
    const first = coalescer.run('key', async () => 1)
    now = 9
    expect(coalescer.run('key', async () => 2).startedAt).toBe(5)
    await first.promise
    expect(coalescer.run('key', async () => 3).startedAt).toBe(9)
  })
})
