// The id by which a request is found in the log, and which the client is told.
import { randomBytes } from 'node:crypto'

const SANE = /^[\w.:/+=@-]{1,128}$/

/** Keeps an id that a proxy in front of us has given if it is fit for a log; else counts from a random start. */
export function requestIds(): (given: string | string[] | undefined) => string {
  const prefix = randomBytes(5).toString('hex')
  let count = 0
  return (given) => {
    if (typeof given === 'string' && SANE.test(given)) return given
    count += 1
    return `${prefix}-${count.toString(36)}`
  }
}
