// Content that is not what its digest or size says. Whose fault that is, cache/ decides.

export type ContentErrorReason = 'wrong-size' | 'wrong-digest'

/** `expected` and `actual` are digests, or sizes in bytes. */
export class ContentError extends Error {
  override readonly name = 'ContentError'
  readonly reason: ContentErrorReason
  readonly expected: string
  readonly actual: string
  constructor(reason: ContentErrorReason, expected: string | number, actual: string | number) {
    const unit = reason === 'wrong-size' ? ' bytes' : ''
    super(
      `the content is not what was asked for: expected ${expected}${unit}, got ${actual}${unit}`,
    )
    this.reason = reason
    this.expected = String(expected)
    this.actual = String(actual)
  }
}
