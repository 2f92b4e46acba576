// What a command may touch of the process it runs in.

/** Where text goes. */
export interface Output {
  write(text: string): unknown
}

export interface Io {
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
}
