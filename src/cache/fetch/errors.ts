// What is wrong with a source's answer, as an error that names the source. Pure.
import type { SourceResponse } from '../../upstream/face/source.ts'
import { UpstreamError } from '../../upstream/face/failure.ts'
import type { Source } from '../../upstream/face/source.ts'
import { OtherBytes } from '../bypass/block-hashes.ts'
import { TooLong } from './write-body.ts'

/** Why an answer to a question from byte `at` on, of a blob of `size` bytes, is not read; or undefined. */
export function refusalOf(
  source: Source,
  response: SourceResponse,
  { at, size }: { readonly at: number; readonly size: number | undefined },
): UpstreamError | undefined {
  const { start } = response
  if (start > at) return sourceFault(source, 'protocol', `answered from byte ${start}, not ${at}`)
  if (response.size === undefined || size === undefined || response.size === size) return undefined
  const what = `says ${response.size} bytes where ${size} are expected`
  return sourceFault(source, 'wrong-size', what)
}

/** `what`: what it did, after its name. */
export function sourceFault(
  source: Source,
  reason: 'protocol' | 'wrong-size' | 'wrong-digest' | 'cut',
  what: string,
): UpstreamError {
  return new UpstreamError(reason, `${source.origin} ${what}`, { endpoint: source.origin })
}

/**
 * Returns what the source did, of whatever was thrown while it was asked and read. Returns undefined
 * for an error that is Chandlery's own.
 */
export function asUpstreamError(error: unknown, source: Source): UpstreamError | undefined {
  if (error instanceof UpstreamError) return error
  if (error instanceof OtherBytes) return sourceFault(source, 'wrong-digest', error.message)
  if (error instanceof TooLong) return sourceFault(source, 'wrong-size', `sent ${error.message}`)
  return undefined
}
