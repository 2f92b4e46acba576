import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decideOn } from '../../../src/cache/policy/failure.ts'
import { decide, pauseAfter } from '../../../src/cache/policy/failure-table.ts'
import type {
  Asked,
  Decision,
  HeldAnswer,
  Wanted,
} from '../../../src/cache/policy/failure-table.ts'
import { NegativeCache } from '../../../src/cache/policy/negative-cache.ts'
import { OciError } from '../../../src/oci/errors.ts'
import { leastFinal, UpstreamError } from '../../../src/upstream/face/failure.ts'
import type { FailureKind, FailureReason } from '../../../src/upstream/face/failure.ts'

/** Every reason there is, and the row it belongs to. */
const KIND_OF: Record<FailureReason, FailureKind> = {
  'not-found': 'gone',
  blocked: 'denied',
  'needs-credentials': 'denied',
  'bad-credentials': 'denied',
  denied: 'denied',
  'not-public': 'denied',
  'realm-refused': 'denied',
  'token-refused': 'denied',
  'rate-limited': 'rate-limited',
  'server-error': 'unavailable',
  refused: 'unavailable',
  'name-not-resolved': 'unavailable',
  'timed-out': 'unavailable',
  cut: 'unavailable',
  reset: 'unavailable',
  tls: 'unavailable',
  'not-trusted': 'unavailable',
  'plain-http': 'unavailable',
  'not-plain-http': 'unavailable',
  'redirect-refused': 'unavailable',
  protocol: 'unavailable',
  loop: 'unavailable',
  'wrong-digest': 'corrupt',
  'wrong-size': 'corrupt',
  'not-a-manifest': 'corrupt',
  'too-large': 'corrupt',
}
const REASONS = Object.keys(KIND_OF) as FailureReason[]
const WANTED: Wanted[] = ['manifest', 'blob', 'tags', 'referrers']

const MINUTE = 60_000
const NOW = 1_700_000_000_000
const SETTINGS = { ttlMs: MINUTE, staleIfErrorMs: 'forever', whenGone: 'serve' } as const
const HELD: HeldAnswer = { checkedAt: NOW - MINUTE, now: NOW, settings: SETTINGS }

function failed(reason: FailureReason, retryAfterMs?: number): UpstreamError {
  return new UpstreamError(reason, reason, { endpoint: 'https://x.test/v2', retryAfterMs })
}

/** "serve denied", "wait 3000", "503 UNAVAILABLE". */
function asText(decision: Decision): string {
  if (decision.act === 'serve') return `serve ${decision.detail}`
  if (decision.act === 'wait') return `wait ${decision.ms}`
  return `${decision.status} ${decision.code}`
}

const refusedAs = (reason: FailureReason, what: Wanted) => asText(decide(failed(reason), { what }))

describe('held content', () => {
  const expected: Record<FailureKind, string> = {
    gone: 'serve upstream-gone',
    denied: 'serve denied',
    'rate-limited': 'serve rate-limited',
    unavailable: 'serve upstream-error',
    corrupt: 'serve upstream-error',
  }
  const cells = REASONS.flatMap((reason) => WANTED.map((what) => ({ reason, what })))

  it.each(cells)('($what, $reason) is served at once, with the reason', ({ reason, what }) => {
    const decision = decide(failed(reason, 3_000), { what, held: HELD, waitedMs: 0 })
    expect(asText(decision)).toBe(expected[KIND_OF[reason]])
  })

  it.each(cells)('($what, $reason) counts as not held when it is too old', ({ reason, what }) => {
    const settings = { ...SETTINGS, staleIfErrorMs: 1, whenGone: 'refuse' } as const
    const held = { ...HELD, checkedAt: NOW - MINUTE - 1, settings }
    expect(decide(failed(reason), { what, held })).toEqual(decide(failed(reason), { what }))
  })

  it('is refused when it is gone and whenGone says so, however young it is', () => {
    const held = { ...HELD, checkedAt: NOW, settings: { ...SETTINGS, whenGone: 'refuse' } } as const
    const asked: Asked = { what: 'manifest', held }
    expect(asText(decide(failed('not-found'), asked))).toBe('404 MANIFEST_UNKNOWN')
    expect(asText(decide(failed('denied'), asked))).toBe('serve denied')
  })

  it.each(['anonymous', 'credential', 'imported'] as const)(
    'survives a refusal when its grant says so: %s',
    (grantedBy) => {
      const asked: Asked = { what: 'manifest', held: { ...HELD, grantedBy } }
      expect(asText(decide(failed('denied'), asked))).toBe('serve denied')
    },
  )

  it('is served with what the upstream answered', () => {
    const error = new UpstreamError('server-error', 'x', { endpoint: 'x', status: 500 })
    expect(decide(error, { what: 'manifest', held: HELD })).toMatchObject({ fwdStatus: 500 })
  })
})

describe('content that is not held', () => {
  const STATUS: Partial<Record<FailureReason, number>> = {
    refused: 503,
    'name-not-resolved': 503,
    'timed-out': 504,
    loop: 508,
  }
  const UNKNOWN: Record<Wanted, string> = {
    manifest: '404 MANIFEST_UNKNOWN',
    blob: '404 BLOB_UNKNOWN',
    tags: '404 NAME_UNKNOWN',
    referrers: '404 MANIFEST_UNKNOWN',
  }
  const expected: Record<FailureKind, (reason: FailureReason, what: Wanted) => string> = {
    gone: (_reason, what) => UNKNOWN[what],
    denied: () => '403 DENIED',
    'rate-limited': () => '503 TOOMANYREQUESTS',
    unavailable: (reason) => `${STATUS[reason] ?? 502} UNAVAILABLE`,
    corrupt: () => '502 UNAVAILABLE',
  }
  const cells = REASONS.flatMap((reason) =>
    WANTED.map((what) => ({ reason, what, answer: expected[KIND_OF[reason]](reason, what) })),
  )

  it.each(cells)('($what, $reason) leads to $answer', ({ reason, what, answer }) => {
    expect(refusedAs(reason, what)).toBe(answer)
  })

  it.each(cells)(
    '($what, $reason) is treated in the same way when it is only about access',
    ({ reason, what, answer }) => {
      const decision = decide(failed(reason), { what, onlyAccess: true })
      expect(asText(decision)).toBe(answer.replace(/^50[24]/, '503'))
    },
  )

  it.each([
    [0, 0, 'wait 1000'],
    [1_500, 0, 'wait 1500'],
    [10_000, 0, 'wait 10000'],
    [10_001, 0, '503 TOOMANYREQUESTS'],
    [5_000, 7_000, 'wait 5000'],
    [5_000, 7_001, '503 TOOMANYREQUESTS'],
    [undefined, 0, '503 TOOMANYREQUESTS'],
    [1_000, undefined, '503 TOOMANYREQUESTS'],
  ])(
    'behind a rate limit that ends in %s ms, after %s ms, is decided as %s',
    (retryAfterMs, waitedMs, text) => {
      const asked: Asked = { what: 'blob', ...(waitedMs !== undefined && { waitedMs }) }
      expect(asText(decide(failed('rate-limited', retryAfterMs), asked))).toBe(text)
    },
  )

  it('is waited for only because of rate limits', () => {
    for (const reason of REASONS.filter((each) => each !== 'rate-limited')) {
      expect(decide(failed(reason, 1_000), { what: 'blob', waitedMs: 0 }).act).toBe('refuse')
    }
  })

  it.each([
    [1_200, '2'],
    [0, '1'],
    [undefined, '60'],
    [1e12, '3600'],
  ])('that is limited for %s ms has a Retry-After of %s s', (retryAfterMs, seconds) => {
    const decision = decide(failed('rate-limited', retryAfterMs), { what: 'blob' })
    expect(decision).toMatchObject({ headers: { 'retry-after': seconds } })
  })
})

describe('the failure table', () => {
  const errors = fc.array(
    fc.record({
      reason: fc.constantFrom(...REASONS),
      retryAfterMs: fc.option(fc.nat(20_000), { nil: undefined }),
    }),
    { minLength: 1, maxLength: 4 },
  )
  const asked = fc.record(
    {
      what: fc.constantFrom(...WANTED),
      onlyAccess: fc.boolean(),
      waitedMs: fc.nat(15_000),
    },
    { requiredKeys: ['what'] },
  )

  it('never tells a client 429 or 401, and 404 only when all endpoints said so', () => {
    fc.assert(
      fc.property(errors, asked, (answers, request) => {
        const final = leastFinal(
          answers.map(({ reason, retryAfterMs }) => failed(reason, retryAfterMs)),
        )
        const decision = decide(final, request)
        const status = decision.act === 'refuse' ? decision.status : 0
        const gone = answers.every(({ reason }) => reason === 'not-found')
        expect([401, 429]).not.toContain(status)
        expect(status === 404).toBe(gone)
        const negative = new NegativeCache()
        negative.remember('key', final, MINUTE)
        expect(negative.get('key') !== undefined).toBe(gone)
      }),
    )
  })

  it('never has a client wait for more than 12 s in all', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(20_000), { minLength: 20, maxLength: 20 }), (limits) => {
        let waitedMs = 0
        for (const limit of limits) {
          const decision = decide(failed('rate-limited', limit), { what: 'manifest', waitedMs })
          if (decision.act === 'wait') waitedMs += decision.ms
        }
        expect(waitedMs).toBeLessThanOrEqual(12_000)
      }),
    )
  })

  it('decides in the same way about an answer that was made of a failure or of a fault of ours', () => {
    const cause = failed('rate-limited', 1_000)
    const answer = new OciError('UNAVAILABLE', 'x', { cause })
    expect(asText(decideOn(answer, { what: 'referrers', held: HELD }))).toBe('serve rate-limited')
    const fault = new TypeError('x')
    expect(asText(decideOn(fault, { what: 'manifest', held: HELD }))).toBe('serve internal-error')
    expect(asText(decideOn(fault, { what: 'manifest', waitedMs: 0 }))).toBe('500 UNKNOWN')
    const exhausted = Object.assign(new Error('x'), { code: 'EMFILE' })
    const refused = decideOn(exhausted, { what: 'blob', onlyAccess: true, waitedMs: 0 })
    expect(asText(refused)).toBe('503 UNAVAILABLE')
  })
})

// The README's table, made of what the code decides; only the first column is written by hand.
const ROWS: Record<FailureKind, string> = {
  gone: '404',
  denied: '401, 403, 451, no token',
  'rate-limited': '429',
  unavailable: '5xx, refused, cut, DNS, TLS, timeout',
  corrupt: 'wrong digest, wrong size, HTML with 200',
}

function heldCell(reason: FailureReason): string {
  const decision = decide(failed(reason), { what: 'manifest', held: HELD })
  if (decision.act !== 'serve') throw new Error(`${reason} is not served`)
  const refuse = { ...HELD, settings: { ...SETTINGS, whenGone: 'refuse' } } as const
  const depends = decide(failed(reason), { what: 'manifest', held: refuse }).act !== 'serve'
  const pause = pauseAfter(failed(reason, 17_000), MINUTE)
  const until = pause === 17_000 ? 'until `Retry-After`' : `for ${pause / 1_000} s`
  const unless = depends ? ', unless `whenGone: refuse`' : ''
  return `served, \`detail=${decision.detail}\`${unless}; not asked about it again ${until}`
}

/** Each answer once; the reasons where there are several. */
function coldCell(reasons: readonly FailureReason[]): string {
  const byAnswer = new Map<string, Set<FailureReason>>()
  for (const reason of reasons) {
    const [status = ''] = refusedAs(reason, 'manifest').split(' ')
    const codes = new Set(WANTED.map((what) => refusedAs(reason, what).split(' ')[1]))
    const answer = `${status} ${[...codes].map((code) => `\`${code}\``).join(', ')}`
    byAnswer.set(answer, (byAnswer.get(answer) ?? new Set()).add(reason))
  }
  const [[usual, most] = ['', new Set()], ...others] = [...byAnswer].toSorted(
    ([, one], [, other]) => other.size - one.size,
  )
  const special = others.map(([answer, which]) => {
    return `${answer.split(' ')[0]} (${[...which].map((reason) => `\`${reason}\``).join(', ')})`
  })
  const [first] = [...most] as FailureReason[]
  return [`${waiting(first)}${usual}${comeBack(first)}`, ...special].join(', ') + kept(first)
}

function waiting(reason: FailureReason | undefined): string {
  if (reason === undefined) return ''
  const waits = [60, 30, 20, 10, 5, 1].filter((seconds) => {
    return decide(failed(reason, seconds * 1_000), { what: 'blob', waitedMs: 0 }).act === 'wait'
  })
  return waits[0] === undefined ? '' : `\`Retry-After\` of up to ${waits[0]} s: waited for; else `
}

function comeBack(reason: FailureReason | undefined): string {
  const decision = reason && decide(failed(reason), { what: 'blob' })
  const says = decision?.act === 'refuse' && 'retry-after' in decision.headers
  return says ? ' with `Retry-After`, at once' : ''
}

function kept(reason: FailureReason | undefined): string {
  const negative = new NegativeCache()
  negative.remember('key', reason && failed(reason), MINUTE)
  return negative.get('key') === undefined ? '' : ', remembered for `negativeTtl`'
}

function table(): string {
  const kinds = Object.keys(ROWS) as FailureKind[]
  const lines = kinds.map((kind) => {
    const reasons = REASONS.filter((reason) => KIND_OF[reason] === kind)
    const held = new Set(reasons.map(heldCell))
    return `| ${ROWS[kind]} | ${[...held].join(' or ')} | ${coldCell(reasons)} |`
  })
  return ['| the upstream | held | not held |', '|---|---|---|', ...lines].join('\n')
}

describe("the README's failure table", () => {
  it('is the table that the code decides by', () => {
    const readme = readFileSync(join(import.meta.dirname, '../../../README.md'), 'utf8')
    const block = /<!-- failure table -->\n+(.*?)\n+<!-- end of failure table -->/s.exec(readme)
    expect(block?.[1]).toBe(table())
  })

  it('has a row for every reason', () => {
    for (const reason of REASONS) expect(failed(reason).kind).toBe(KIND_OF[reason])
  })
})
