// How a tunnel through a proxy fails.

/** A proxy cannot be used, or does not lead to the destination. The message holds no secret. */
export class TunnelError extends Error {
  override readonly name = 'TunnelError'
  readonly code = 'CHANDLERY_PROXY'
  readonly timedOut: boolean

  constructor(message: string, options: { cause?: unknown; timedOut?: boolean } = {}) {
    super(message, { cause: options.cause })
    this.timedOut = options.timedOut ?? false
  }
}
