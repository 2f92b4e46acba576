import { describe, expect, it } from 'vitest'
import { WriteBehind, type WriteBehindOptions } from '../../../src/cache/flight/write-behind.ts'

function writeBehind(options: Omit<WriteBehindOptions, 'observer'> = {}) {
  const errors: string[] = []
  const storeError = (operation: string, error: unknown): void => {
    errors.push(`${operation}: ${error instanceof Error ? error.message : String(error)}`)
  }
  return { writes: new WriteBehind({ ...options, observer: { storeError } }), errors }
}

describe('WriteBehind', () => {
  it('has written everything when drained, including what a write pushed', async () => {
    const { writes } = writeBehind()
    const written: string[] = []
    writes.push('a', 'write', async () => {
      await Promise.resolve()
      written.push('a')
      writes.push('b', 'write', async () => void written.push('b'))
    })
    await writes.drain()
    expect(written).toEqual(['a', 'b'])
  })

  it('runs a limited number of writes at once', async () => {
    const { writes } = writeBehind({ concurrency: 2 })
    let running = 0
    let most = 0
    for (let i = 0; i < 10; i++) {
      writes.push(`key ${i}`, 'write', async () => {
        most = Math.max(most, ++running)
        await new Promise((resolve) => setTimeout(resolve, 1))
        running--
      })
    }
    await writes.drain()
    expect(most).toBe(2)
  })

  it('writes one key in order, and only the last of what waits', async () => {
    const { writes } = writeBehind()
    const gate = Promise.withResolvers<void>()
    const written: number[] = []
    const push = (n: number): void => {
      writes.push('key', 'write', async () => {
        if (n === 1) await gate.promise
        written.push(n)
      })
    }
    for (const n of [1, 2, 3]) push(n)
    gate.resolve()
    await writes.drain()
    expect(written).toEqual([1, 3])
  })

  it('reports a write that fails, even synchronously, and goes on', async () => {
    const { writes, errors } = writeBehind({ concurrency: 1 })
    let done = false
    writes.push('a', 'write link', () => {
      throw new Error('EROFS')
    })
    writes.push('b', 'write tag', () => Promise.reject(new Error('ENOSPC')))
    writes.push('c', 'write tag', async () => void (done = true))
    await writes.drain()
    expect(errors).toEqual(['write link: EROFS', 'write tag: ENOSPC'])
    expect(done).toBe(true)
  })

  it('drops and reports what finds no room, but still replaces what waits', async () => {
    const { writes, errors } = writeBehind({ concurrency: 1, maxPending: 1 })
    const written: string[] = []
    const push = (key: string, value: string): void => {
      writes.push(key, 'write', async () => void written.push(value))
    }
    push('running', 'running')
    push('waits', 'old')
    push('waits', 'new')
    push('too many', 'dropped')
    await writes.drain()
    expect(written).toEqual(['running', 'new'])
    expect(errors).toEqual([expect.stringContaining('dropped')])
  })

  it('holds no more bytes in memory than it may, while the disk hangs', async () => {
    const { writes, errors } = writeBehind({ concurrency: 1, maxPendingBytes: 100 })
    const gate = Promise.withResolvers<void>()
    const written: string[] = []
    const push = (key: string, bytes: number): void => {
      writes.push(key, 'write manifest', async () => void written.push(key), bytes)
    }
    writes.push('hangs', 'write', () => gate.promise)
    push('a', 60)
    push('b', 60)
    push('a', 90)
    push('c', 10)
    gate.resolve()
    await writes.drain()
    expect(written).toEqual(['a', 'c'])
    expect(errors).toHaveLength(1)
    push('d', 100)
    await writes.drain()
    expect(written).toContain('d')
  })

  it('still makes the older write of a key when a newer one finds no room', async () => {
    const { writes, errors } = writeBehind({ concurrency: 1, maxPendingBytes: 100 })
    const written: string[] = []
    const push = (key: string, value: string, bytes: number): void => {
      writes.push(key, 'write tag', async () => void written.push(value), bytes)
    }
    push('running', 'running', 0)
    push('tag', 'older', 10)
    push('other', 'other', 50)
    push('tag', 'newer', 60)
    await writes.drain()
    expect(errors).toEqual([expect.stringContaining('this one was dropped')])
    expect(written).toEqual(['running', 'older', 'other'])
  })
})
