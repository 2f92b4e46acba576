// The input and the results of a benchmark scenario.
import type { Bench } from './peers.ts'
import type { Server } from './process.ts'

/** One line of a table: figures by the name of their column. */
export type Row = Record<string, string | number>

export interface Setting {
  readonly bench: Bench
  /** The path of the compiled client. */
  readonly sink: string
  readonly origin: Server & { log: string }
  /** Of what every reference leads to at the origin. */
  readonly manifestDigest: string
  readonly hasRegistry: boolean
  /** Fewer and shorter measurements. */
  readonly quick: boolean
  /** What the names of the parts to measure have in common; empty: all parts. */
  readonly only: string
  readonly report: (title: string, rows: Row[]) => void
}
