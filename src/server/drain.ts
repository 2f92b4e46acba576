// The end of a server towards its clients, step by step: answers say that they are the last, then nobody
// new is let in, then what runs may end, then it is cut. What is stored is not its business.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Connections, Cut } from './connections.ts'

const LOOK_EVERY_MS = 10

export interface DrainOptions {
  readonly connections: Connections
  /** For so long requests are still taken, so that who balances can see that we are leaving. */
  readonly delayMs: number
  /** After that, running responses may go on for so long. */
  readonly timeoutMs: number
  /** Ends both at once. */
  readonly hurry?: AbortSignal | undefined
  /** Nobody new is let in; so many responses run. */
  readonly onClosed?: (running: number) => void
  /** Called again and again while responses run: what else can be ended meanwhile. */
  readonly meanwhile?: () => void
}

/** Resolves when nothing runs any more and no request can come. */
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
    await pause(LOOK_EVERY_MS, hurry)
  }
  if (connections.running > 0) {
    connections.hurry()
    await pause(LOOK_EVERY_MS, undefined)
  }
  return connections.cut()
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, signal && { signal }).catch(() => undefined)
}
