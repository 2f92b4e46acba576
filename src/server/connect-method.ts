// CONNECT: Node hands the bare socket to who listens for it, and closes it where nobody does. Here it is
// a request like any other, which gets an answer and an access line, and is the last of its connection.
import { type IncomingMessage, type RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** Node's own, undocumented: the response under way. */
type Connection = Socket & { readonly _httpMessage?: ServerResponse | null }

/** For Node's `connect`. */
export function answerConnect(
  handler: RequestListener,
): (req: IncomingMessage, socket: Duplex) => void {
  return (req) => {
    const connection: Connection = req.socket
    connection.on('error', () => connection.destroy()) // nobody else listens any more
    if (connection._httpMessage) {
      connection.destroy() // behind a request without an answer there is no turn to wait for
      return
    }
    const res = new ServerResponse(req)
    res.shouldKeepAlive = false
    res.assignSocket(connection)
    res.once('finish', () => connection.destroySoon())
    handler(req, res)
  }
}
