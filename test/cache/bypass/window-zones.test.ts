import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GRANT_BYTES, MOST_GRANTS } from '../../../src/cache/bypass/window-grants.ts'
import { BLOCK_BYTES } from '../../../src/cache/bypass/window-blocks.ts'
import {
  LEAST_BYTES,
  MOST_BYTES,
  type Need,
  WindowZones,
  type ZoneConditions,
} from '../../../src/cache/bypass/window-zones.ts'

const MIB = 1024 * 1024
const SIZE = 1000 * MIB
const CONDITIONS: ZoneConditions = {
  ranged: true,
  mostGrants: MOST_GRANTS,
  hashed: SIZE,
  withheld: false,
  memory: () => 256 * MIB,
  now: 0,
}

function needOf(reader: object, at: number, more: Partial<Need> = {}): Need {
  return { reader, at, end: SIZE, position: at, waits: true, whole: true, here: true, ...more }
}

function arranged(needs: readonly Need[], conditions: Partial<ZoneConditions> = {}): WindowZones {
  const zones = new WindowZones()
  zones.arrange(needs, { ...CONDITIONS, ...conditions })
  return zones
}

function kept(zones: WindowZones): number {
  let bytes = 0
  for (let at = 0; at < SIZE; at += BLOCK_BYTES) {
    if (zones.keeps(at, at + BLOCK_BYTES)) bytes += BLOCK_BYTES
  }
  return bytes
}

const readers = Array.from({ length: 12 }, (_, index) => ({ index }))

describe('the zones', () => {
  test('begin where the slowest is that is not far behind the first', () => {
    const zones = arranged([needOf(readers[0]!, 100 * MIB), needOf(readers[1]!, 95 * MIB)])
    expect(zones.rest).toEqual({ start: 95 * MIB, end: SIZE })
    expect(zones.low).toBe(95 * MIB)
    expect(zones.apart).toEqual([])
  })

  test('give those that are far away a stretch of their own, some at a time', () => {
    const far = readers.map((reader, index) => needOf(reader, index * 10 * MIB))
    const zones = arranged([...far, needOf({}, 500 * MIB)])
    expect(zones.rest?.start).toBe(500 * MIB)
    expect(zones.apart).toHaveLength(MOST_GRANTS)
    expect(zones.apart[1]).toEqual({ start: 10 * MIB, end: 10 * MIB + GRANT_BYTES })
    const others = far.map((need, index) => (index === 0 ? needOf(need.reader, 3 * MIB) : need))
    zones.arrange([...others, needOf({}, 500 * MIB)], CONDITIONS)
    expect(zones.apart.map(({ start }) => start)).toEqual([10, 20, 30, 40].map((at) => at * MIB))
  })

  test('take a stretch back from who reads nothing of it, for who waits', () => {
    const far = readers.map((reader, index) =>
      needOf(reader, index * 10 * MIB, { waits: index > 3 }),
    )
    const all = [...far, needOf({}, 500 * MIB)]
    const zones = arranged(all)
    zones.arrange(all, { ...CONDITIONS, now: 4000 })
    expect(zones.apart.map(({ start }) => start / MIB)).toEqual([0, 10, 20, 30])
    zones.arrange(all, { ...CONDITIONS, now: 6000 })
    expect(zones.apart.map(({ start }) => start / MIB)).toEqual([40, 50, 60, 70])
  })

  test('leave the first reader when it has stopped, and go with one that has not', () => {
    const stopped = needOf({}, 500 * MIB, { waits: false })
    const zones = arranged([stopped, needOf(readers[0]!, 10 * MIB)])
    expect(zones.low).toBe(500 * MIB)
    zones.arrange([stopped, needOf(readers[0]!, 11 * MIB)], { ...CONDITIONS, now: 6000 })
    expect(zones.low).toBe(11 * MIB)
    expect(zones.apart).toEqual([])
  })

  test('keep and fetch nothing while there is no memory, and say whether somebody goes on', () => {
    const zones = arranged([needOf({}, 100 * MIB), needOf({}, 5 * MIB)])
    expect([zones.keeps(101 * MIB, 102 * MIB), zones.mostBytes > 0]).toEqual([true, true])
    const asked: boolean[] = []
    const memory = (isIdle: boolean) => (asked.push(isIdle), 0)
    const stopped = needOf({}, 100 * MIB, { waits: false })
    zones.arrange([stopped], { ...CONDITIONS, memory })
    expect([zones.rest, zones.apart, zones.mostBytes]).toEqual([undefined, [], 0])
    expect(zones.keeps(101 * MIB, 102 * MIB)).toBe(false)
    expect([zones.admits(101 * MIB, false), zones.admits(5 * MIB, true)]).toEqual(['no', 'no'])
    zones.arrange([stopped], { ...CONDITIONS, memory, now: 6000 })
    zones.arrange([], { ...CONDITIONS, memory })
    zones.arrange([], { ...CONDITIONS, memory, withheld: true })
    expect(asked).toEqual([false, true, true, false])
  })

  test('are smaller where memory is short, and keep what cannot be asked for again', () => {
    const needs = [needOf({}, 100 * MIB)]
    for (const ranged of [true, false]) {
      const zones = arranged(needs, { ranged })
      zones.arrange(needs, { ...CONDITIONS, ranged, memory: () => 9 * MIB })
      expect(zones.admits(107 * MIB, false)).toBe('wait')
      expect(zones.keeps(115 * MIB, 116 * MIB)).toBe(!ranged)
      zones.arrange([needOf({}, 112 * MIB)], { ...CONDITIONS, ranged, memory: () => 9 * MIB })
      expect(zones.keeps(119 * MIB, 120 * MIB)).toBe(false)
    }
  })

  test('hold what is not hashed yet', () => {
    const zones = arranged([needOf({}, 20 * MIB)], { hashed: 12 * MIB })
    expect(zones.low).toBe(12 * MIB)
    expect(zones.keeps(12 * MIB, 13 * MIB)).toBe(true)
    const late = arranged([needOf({}, 200 * MIB)], { hashed: 12 * MIB })
    expect(late.rest).toBeUndefined()
    expect(late.admits(200 * MIB, false)).toBe('no')
  })

  test('wait for the slowest where ranges are ignored, unless it has stopped', () => {
    const zones = new WindowZones()
    const [slow, fast] = [{}, {}]
    for (let at = 0; at <= 10; at++) {
      const needs = [needOf(slow, at * 100_000), needOf(fast, at * MIB)]
      zones.arrange(needs, { ...CONDITIONS, ranged: false })
    }
    expect(zones.low).toBe(1_000_000)
    expect(zones.admits(zones.top - 1, false)).toBe('yes')
    expect(zones.admits(zones.top + MIB, false)).toBe('wait')
    expect(zones.admits(zones.low - MIB, false)).toBe('no')
    const stopped = needOf(slow, 1_000_000, { waits: false })
    for (const now of [0, 20_000, 40_000]) {
      zones.arrange([stopped, needOf(fast, 12 * MIB)], { ...CONDITIONS, ranged: false, now })
      expect(zones.low).toBe(now < 40_000 ? 1_000_000 : 12 * MIB)
    }
  })

  test('keep all of a batch that is written for who is elsewhere, where ranges are ignored', () => {
    const batch = MIB + 64 * 1024
    for (const end of [SIZE, 1.5 * MIB, 100_000]) {
      const [first, late] = [needOf({}, 40 * MIB), needOf({}, 0, { end })]
      const zones = arranged([first], { ranged: false })
      zones.arrange([first, late], { ...CONDITIONS, ranged: false })
      expect(zones.admits(0, true)).toBe('yes')
      for (let at = 0; at < Math.min(end, 8 * MIB); at += 64 * 1024) {
        if (zones.admits(at, true) !== 'yes') continue
        const last = Math.min(at + batch, end)
        for (let byte = at; byte < last; byte += 64 * 1024) {
          expect(zones.keeps(byte, Math.min(byte + 64 * 1024, last))).toBe(true)
        }
      }
      expect(zones.admits(Math.min(end - 1, 3 * MIB), true)).toBe(end === SIZE ? 'wait' : 'yes')
    }
  })

  test('fetch for the digest alone while parts are withheld, unless somebody reads the whole', () => {
    const part = needOf({}, 50 * MIB, { whole: false })
    const conditions = { ...CONDITIONS, withheld: true, hashed: 7 * MIB }
    const zones = arranged([part], conditions)
    expect(zones.rest).toEqual({ start: 7 * MIB, end: Infinity })
    zones.arrange([part, needOf({}, 6 * MIB)], conditions)
    expect(zones.rest).toEqual({ start: 6 * MIB, end: SIZE })
    expect(zones.apart).toEqual([])
  })

  const aNeed = fc.record({
    reader: fc.constantFrom(...readers),
    at: fc.integer({ min: 0, max: SIZE - 1 }),
    whole: fc.boolean(),
    here: fc.boolean(),
    waits: fc.boolean(),
  })

  test('never keep more than their bound, and bring something to somebody', () => {
    const scenes = fc.record({
      steps: fc.array(
        fc.uniqueArray(aNeed, { selector: ({ reader }) => reader, minLength: 1, maxLength: 12 }),
        { minLength: 1, maxLength: 8 },
      ),
      ranged: fc.boolean(),
      bytes: fc.constantFrom(256 * MIB, 25 * MIB, 9 * MIB, LEAST_BYTES),
    })
    const property = fc.property(scenes, ({ steps, ranged, bytes }) => {
      const zones = new WindowZones()
      for (const [step, needs] of steps.entries()) {
        const conditions = { ...CONDITIONS, ranged, memory: () => bytes, now: step * 1000 }
        const wanted = needs.map((need) => ({ ...need, position: need.at, end: SIZE }))
        zones.arrange(wanted, conditions)
        expect(kept(zones)).toBeLessThanOrEqual(zones.mostBytes)
        expect(zones.mostBytes).toBeLessThanOrEqual(Math.min(MOST_BYTES, bytes))
        const { rest } = zones
        expect(rest && zones.admits(rest.start, false)).toBe('yes')
        expect(wanted.some(({ at }) => at === rest?.start)).toBe(true)
        for (const { start } of zones.apart) expect(zones.admits(start, true)).toBe('yes')
      }
    })
    fc.assert(property, { numRuns: 60 })
  })

  test('never drop what a reader of the main zone still needs', () => {
    const scenes = fc.record({
      starts: fc.array(fc.integer({ min: 0, max: 30 * MIB }), { minLength: 1, maxLength: 6 }),
      steps: fc.array(fc.record({ who: fc.nat(5), by: fc.integer({ min: 1, max: 3 * MIB }) }), {
        minLength: 1,
        maxLength: 100,
      }),
      ranged: fc.boolean(),
      bytes: fc.constantFrom(256 * MIB, 9 * MIB, LEAST_BYTES),
    })
    const property = fc.property(scenes, ({ starts, steps, ranged, bytes }) => {
      const zones = new WindowZones()
      const at = [...starts]
      const conditions = { ...CONDITIONS, ranged, memory: () => bytes }
      const arrange = () =>
        zones.arrange(
          at.map((each, i) => needOf(readers[i]!, each)),
          conditions,
        )
      arrange()
      for (const { who, by } of steps) {
        const fed = at.map((each) => each >= zones.low && each <= zones.top)
        const index = who % at.length
        if (fed[index]) at[index] = Math.min(at[index]! + by, zones.top)
        arrange()
        const first = Math.max(...at)
        for (const each of at.filter((_, i) => fed[i])) {
          const isFarBehind = ranged && each < first - MIB
          if (!isFarBehind)
            expect([zones.low <= each, zones.keeps(each, each + 1)]).toEqual([true, true])
        }
      }
    })
    fc.assert(property, { numRuns: 200 })
  })

  test('bring every reader that goes on to its end, however many have stopped', () => {
    const scenes = fc.record({
      going: fc.array(fc.integer({ min: 0, max: 300 * MIB }), { minLength: 1, maxLength: 6 }),
      stopped: fc.array(fc.integer({ min: 0, max: 300 * MIB }), { maxLength: 20 }),
      whole: fc.boolean(),
      ranged: fc.boolean(),
      bytes: fc.constantFrom(256 * MIB, 9 * MIB, LEAST_BYTES),
    })
    const property = fc.property(scenes, ({ going, stopped, whole, ranged, bytes }) => {
      const zones = new WindowZones()
      const standing = stopped.map((at) => needOf({}, at, { waits: false, whole }))
      let left = going.map((at) => ({ reader: {}, at }))
      let now = 0
      for (; left.length > 0 && now < 200_000; now += 50) {
        const needs = [...standing, ...left.map(({ reader, at }) => needOf(reader, at, { whole }))]
        zones.arrange(needs, { ...CONDITIONS, ranged, memory: () => bytes, now })
        const granted = [{ start: zones.low, end: zones.top }, ...zones.apart]
        left = left.map(({ reader, at }) => {
          const zone = granted.find(({ start, end }) => start <= at && at < end)
          return { reader, at: Math.min(zone?.end ?? at, at + 2 * MIB) }
        })
        left = left.filter(({ at }) => at < SIZE)
      }
      expect(left).toEqual([])
    })
    fc.assert(property, { numRuns: 40 })
  })
})
