// Listens on a configured address, and explains in words why that fails.
import type { AddressInfo } from 'node:net'
import { formatListenAddress, type ListenAddress } from '../config/listen-address.ts'

interface Listening {
  listen(options: { readonly host: string; readonly port: number }): Promise<unknown>
  readonly server: { address(): AddressInfo | string | null }
}

/** Listens on an address. `key` is its key in the configuration. Rejects with an error that says what to do. */
export async function bind(app: Listening, address: ListenAddress, key: string): Promise<void> {
  const { host = '::', port } = address
  try {
    await app.listen({ host, port })
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? CAUSES[String(error.code)] : undefined
    if (why === undefined) throw error
    const text = `${formatListenAddress(address)} ${why}: set ${key} to another address`
    throw new Error(text, { cause: error })
  }
}

/** Returns the port that is listened on, or 0. */
export function portOf(app: Listening): number {
  const address = app.server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

const CAUSES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use by another process',
  EACCES: 'may not be used by this user (ports below 1024 need CAP_NET_BIND_SERVICE)',
  EADDRNOTAVAIL: 'is not an address of this machine',
  ENOTFOUND: 'cannot be resolved',
  EAI_AGAIN: 'cannot be resolved',
}
