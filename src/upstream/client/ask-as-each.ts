// One question to one endpoint with each of our credentials there, until one is let in: the next one
// where the last is told to wait, is not known, or may not have it.
import { fingerprintOf } from '../credentials/credentials.ts'
import { leastFinal, UpstreamError } from '../face/failure.ts'
import type { FailureReason } from '../face/failure.ts'
import type { Place } from './place.ts'

export interface AskingAsEach<T> {
  /** The place with a credential that is not among these fingerprints, if there is one. */
  readonly placeAt: (except: ReadonlySet<string>) => Promise<Place>
  readonly ask: (place: Place) => Promise<T>
  /** The registry does not know this place's credential. */
  readonly unknown: (place: Place) => void
  /** Another one was let in, so that nobody hears of this failure otherwise. */
  readonly hidden: (error: UpstreamError) => void
}

/** What a refusal is about when it is not about who we are. */
const WHOEVER_ASKS: ReadonlySet<FailureReason> = new Set(['blocked', 'not-public'])

/** Throws the least final of the UpstreamErrors, or whatever else `ask` throws. */
export async function askAsEach<T>(asking: AskingAsEach<T>): Promise<T> {
  const failures: UpstreamError[] = []
  const tried = new Set<string>()
  for (;;) {
    const place = await asking.placeAt(tried)
    const who = fingerprintOf(place.credential)
    if (tried.has(who)) throw leastFinal(failures)
    tried.add(who)
    try {
      const answer = await asking.ask(place)
      for (const error of failures.filter(isOurMistake)) asking.hidden(error)
      return answer
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error
      failures.push(error)
      if (isOurMistake(error)) asking.unknown(place)
      if (!isAboutUs(error)) throw leastFinal(failures)
    }
  }
}

function isAboutUs({ kind, reason }: UpstreamError): boolean {
  return kind === 'rate-limited' || (kind === 'denied' && !WHOEVER_ASKS.has(reason))
}

function isOurMistake({ reason }: UpstreamError): boolean {
  return reason === 'bad-credentials'
}
