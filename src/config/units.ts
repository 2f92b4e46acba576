// Durations and sizes as people write them: whole numbers with a unit. A bare number is refused,
// because it could mean seconds or milliseconds.
import { quote, ValueError } from './value-error.ts'

const DURATION = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/
const MILLISECONDS = [86_400_000, 3_600_000, 60_000, 1000, 1] as const
const DURATION_UNITS = ['d', 'h', 'm', 's', 'ms'] as const

/** The grammar of durations for config.schema.json. parseDuration is stricter. */
export const DURATION_PATTERN = String.raw`^(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$`

/** The longest duration accepted: ten years, far from where milliseconds lose precision. */
export const MAX_DURATION_MS = 3650 * 86_400_000

/** Returns the milliseconds of a duration such as `10s`, `2h30m`, `500ms` or `1d`; throws ValueError. */
export function parseDuration(text: string): number {
  const amounts = DURATION.exec(text)?.slice(1)
  if (!text || !amounts) {
    throw new ValueError(
      `${quote(text)} is not a duration; write whole numbers with units d, h, m, s, ms, largest first, such as 30s or 2h30m`,
    )
  }
  const ms = MILLISECONDS.reduce((sum, unit, i) => sum + unit * Number(amounts[i] ?? 0), 0)
  if (ms <= MAX_DURATION_MS) return ms
  throw new ValueError(`${quote(text)} is too long; at most 3650d`)
}

/** Returns `ms` as a string that parseDuration reads back. */
export function formatDuration(ms: number): string {
  let text = ''
  let rest = ms
  for (const [i, unit] of MILLISECONDS.entries()) {
    const amount = Math.floor(rest / unit)
    if (amount > 0) text += `${amount}${DURATION_UNITS[i]}`
    rest -= amount * unit
  }
  return text || '0s'
}

const SIZE = /^(\d+)(B|[kKMGT]B|[KMGT]iB)$/

/** The grammar of sizes for config.schema.json. parseSize is stricter. */
export const SIZE_PATTERN = String.raw`^\d+(B|[kKMGT]B|[KMGT]iB)$`

/**
 * Returns the bytes of a size such as `512B`, `8MiB`, `50GiB` or `5GB`; throws ValueError. The units
 * are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB.
 */
export function parseSize(text: string): number {
  const [, amount = '', unit = ''] = SIZE.exec(text) ?? []
  const power = 'BKMGT'.indexOf((unit[0] ?? '').toUpperCase())
  const bytes = Number(amount) * (unit.endsWith('iB') ? 1024 : 1000) ** power
  if (!amount) {
    throw new ValueError(
      `${quote(text)} is not a size; write a whole number with a unit, such as 8MiB, 50GiB or 5GB`,
    )
  }
  if (Number.isSafeInteger(bytes)) return bytes
  throw new ValueError(`${quote(text)} is too large; at most 8191TiB`)
}

const SIZE_UNITS = ['TiB', 'GiB', 'MiB', 'KiB'] as const

/** Returns `bytes` as a string that parseSize reads back, in the largest unit without a fraction. */
export function formatSize(bytes: number): string {
  const index = SIZE_UNITS.findIndex((_, i) => bytes > 0 && bytes % 1024 ** (4 - i) === 0)
  return index < 0 ? `${bytes}B` : `${bytes / 1024 ** (4 - index)}${SIZE_UNITS[index]}`
}
