import { expect, test } from 'vitest'

import { AccessLog } from '../../src/observability/access-log.ts'
import { EventLog } from '../../src/observability/event-log.ts'
import { createLogger } from '../../src/observability/logger.ts'
import { Metrics } from '../../src/observability/metrics.ts'
import { Observer } from '../../src/observability/observer.ts'

function observing() {
  const lines: Record<string, unknown>[] = []
  const write = (line: string) => void lines.push(JSON.parse(line))
  const logger = createLogger({ level: 'info', destination: { write } })
  const metrics = new Metrics({ version: '1', processMetrics: false })
  const observer = new Observer(metrics, new AccessLog(logger), new EventLog(logger))
  const counted = async () => {
    const text = await metrics.exposition()
    return Number(/^chandlery_unexpected_errors_total (\d+)$/m.exec(text)?.[1])
  }
  return { observer, lines, counted }
}

test('an error counts once and is logged once, however many requests it fails', async () => {
  const { observer, lines, counted } = observing()
  const error = new TypeError('a bug')
  observer.unexpectedError('ask an upstream', error)
  for (let i = 0; i < 50; i++) observer.unexpectedError('answer a request', error, `request-${i}`)
  expect(await counted()).toBe(1)
  expect(lines).toMatchObject([
    { level: 'error', operation: 'ask an upstream', err: { type: 'TypeError', message: 'a bug' } },
  ])
  expect(lines[0]).toHaveProperty('err.stack', expect.stringContaining('observer.test.ts'))
})

test('a second kind of fault is logged at once, the same kind only now and then', async () => {
  const { observer, lines, counted } = observing()
  for (let i = 0; i < 3; i++) {
    observer.unexpectedError('answer a request', new TypeError('a bug'), 'id')
  }
  observer.unexpectedError('answer a request', new RangeError('another bug'), 'id')
  expect(await counted()).toBe(4)
  expect(lines.map(({ err }) => (err as Error).message)).toEqual(['a bug', 'another bug'])
  expect(lines[0]).toMatchObject({ requestId: 'id' })
})

test('a resource that ran out is logged with what to do about it', () => {
  const { observer, lines } = observing()
  const error = Object.assign(new Error('connect EMFILE'), { code: 'EMFILE' })
  observer.unexpectedError('ask an upstream', error)
  expect(lines).toMatchObject([{ level: 'error', msg: expect.stringContaining('ulimit -n') }])
})
