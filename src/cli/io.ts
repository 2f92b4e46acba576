// The parts of the process that commands may use.

/** A stream for text. */
export interface Output {
  write(text: string): unknown
}

export interface Io {
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
}
