// Shuts the server down towards its clients, step by step: responses announce that they are the last of
// their connections, the listener closes, running responses may end, and what is left is cut. It does not
// deal with the store.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Connections, Cut } from './connections.ts'

const CHECK_EVERY_MS = 10

export interface DrainOptions {
  readonly connections: Connections
  /** How long requests are still accepted, so that load balancers notice that the server is leaving. */
  readonly delayMs: number
  /** How long running responses may go on after that. */
  readonly timeoutMs: number
  /** Ends both periods at once. */
  readonly hurry?: AbortSignal | undefined
  /** Called when the listener is closed, with the number of running responses. */
  readonly onClosed?: (running: number) => void
  /** Called repeatedly while responses run, for other work of the shutdown. */
  readonly meanwhile?: () => void
}

/** Resolves when nothing runs any more and no request can arrive. */
export async function drain(options: DrainOptions): Promise<Cut> {
  const { connections, delayMs, timeoutMs, hurry, onClosed, meanwhile } = options
  connections.endReuse()
  if (delayMs > 0) await pause(delayMs, hurry)
  await connections.stopListening()
  onClosed?.(connections.running)
  const endMs = performance.now() + timeoutMs
  for (;;) {
    connections.closeIdle()
    if (connections.isQuiet || performance.now() >= endMs || hurry?.aborted) break
    meanwhile?.()
    await pause(CHECK_EVERY_MS, hurry)
  }
  if (connections.running > 0) {
    connections.hurry()
    await pause(CHECK_EVERY_MS, undefined)
  }
  return connections.cut()
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, signal && { signal }).catch(() => undefined)
}
