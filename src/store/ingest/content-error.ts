// The error for content whose digest or size is wrong. cache/ decides whose fault it is.

export type ContentErrorReason = 'wrong-size' | 'wrong-digest'

/** `expected` and `actual` are both digests or both sizes in bytes. */
export class ContentError extends Error {
  override readonly name = 'ContentError'
  readonly reason: ContentErrorReason
  readonly expected: string
  readonly actual: string
  constructor(reason: ContentErrorReason, expected: string | number, actual: string | number) {
    const unit = reason === 'wrong-size' ? ' bytes' : ''
    super(`the content is wrong: expected ${expected}${unit}, got ${actual}${unit}`)
    this.reason = reason
    this.expected = String(expected)
    this.actual = String(actual)
  }
}
