import { expect, test } from 'vitest'
import { PassingMemory } from '../../src/cache/passing-memory.ts'

test('what there is is shared out among those that pass through, also when one leaves twice', () => {
  const memory = new PassingMemory(120)
  const one = memory.share()
  expect(one.bytes).toBe(120)
  const [two, three] = [memory.share(), memory.share()]
  expect([one.bytes, two.bytes, three.bytes]).toEqual([40, 40, 40])
  two.leave()
  two.leave()
  expect([one.bytes, three.bytes]).toEqual([60, 60])
})
