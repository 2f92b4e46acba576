// CONNECT: Node gives the bare socket to the `connect` listener and closes it if there is none. Here it is
// a request like any other: it is answered and logged, and it is the last one of its connection.
import { type IncomingMessage, type RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** `_httpMessage`, undocumented in Node, is the current response on a socket. */
type Connection = Socket & { readonly _httpMessage?: ServerResponse | null }

/** Returns a listener for Node's `connect` event that passes the request to the handler. */
export function answerConnect(
  handler: RequestListener,
): (req: IncomingMessage, socket: Duplex) => void {
  return (req) => {
    const connection: Connection = req.socket
    connection.on('error', () => connection.destroy()) // Node has removed its own listener
    if (connection._httpMessage) {
      connection.destroy() // the response before it is still running, and Node does not queue this one
      return
    }
    const res = new ServerResponse(req)
    res.shouldKeepAlive = false
    res.assignSocket(connection)
    res.once('finish', () => connection.destroySoon())
    handler(req, res)
  }
}
