// Request ids: one identifies a request in the log and is sent to the client as X-Request-Id.
import { randomBytes } from 'node:crypto'

const SANE = /^[\w.:/+=@-]{1,128}$/

/** Returns a function that keeps an id given by a client or proxy if it is fit for a log, and makes one otherwise. */
export function requestIds(): (given: string | string[] | undefined) => string {
  const prefix = randomBytes(5).toString('hex')
  let count = 0
  return (given) => {
    if (typeof given === 'string' && SANE.test(given)) return given
    count += 1
    return `${prefix}-${count.toString(36)}`
  }
}
