// Docker credential helpers (docker-credential-<suffix> get): programs that hold or make
// credentials, asked with bounds and not for every request.
import { execFile } from 'node:child_process'
import type { ExecFileException } from 'node:child_process'
import { LRUCache } from 'lru-cache'

import type { Credential } from './credentials.ts'
import { credentialOf } from './docker-config.ts'
import { asText, parseObject } from '../../oci/json-object.ts'

/**
 * A helper that cannot be run or answers nonsense; what it printed may be secret and is not in it.
 */
export class CredentialHelperError extends Error {
  override readonly name = 'CredentialHelperError'
}

/** It gave no answer in time, and was killed. */
export class HelperTimeout extends CredentialHelperError {}

const TIMEOUT_MS = 10_000
const MAX_OUTPUT = 64 * 1024
/**
 * Long enough for a pull; the helpers that make short-lived passwords renew them long before they
 * end.
 */
const KEEP_MS = 60_000
const SUFFIX = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

export class CredentialHelpers {
  readonly #answers = new LRUCache<string, Promise<Credential | undefined>>({
    max: 256,
    ttl: KEEP_MS,
  })
  readonly #timeoutMs: number

  constructor(timeoutMs = TIMEOUT_MS) {
    this.#timeoutMs = timeoutMs
  }

  /**
   * The helper's credential for a server URL; undefined: it has none. Throws CredentialHelperError.
   */
  get(suffix: string, url: string): Promise<Credential | undefined> {
    const key = JSON.stringify([suffix, url])
    const held = this.#answers.get(key)
    if (held !== undefined) return held
    const asked = ask(suffix, url, this.#timeoutMs)
    this.#answers.set(key, asked)
    // A failure is not kept: the next one who asks may have more luck.
    asked.catch(() => this.#answers.peek(key) === asked && this.#answers.delete(key))
    return asked
  }
}

async function ask(
  suffix: string,
  url: string,
  timeoutMs: number,
): Promise<Credential | undefined> {
  if (!SUFFIX.test(suffix)) {
    throw new CredentialHelperError(`${JSON.stringify(suffix)} is no name of a credential helper`)
  }
  const program = `docker-credential-${suffix}`
  const output = await run(program, url, timeoutMs)
  return output === undefined ? undefined : readAnswer(program, output)
}

/** Its output; undefined where it says that it has nothing. */
function run(program: string, url: string, timeoutMs: number): Promise<string | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<string | undefined>()
  const options = { maxBuffer: MAX_OUTPUT, killSignal: 'SIGKILL' } as const
  // Not execFile's own time limit: that waits for the end of the process, and one that is blocked on
  // a dead file system does not even end when it is killed.
  const timer = setTimeout(() => {
    const cure = 'run it by hand to see what it waits for'
    reject(new HelperTimeout(`${program} get: no answer in ${timeoutMs / 1000} s: ${cure}`))
    child.kill('SIGKILL')
    child.stdout?.destroy()
    child.stderr?.destroy()
    child.unref()
  }, timeoutMs)
  const child = execFile(program, ['get'], options, (error, stdout) => {
    clearTimeout(timer)
    // The protocol's way to say so: exit code and these words on standard output.
    if (error !== null && /credentials not found/i.test(stdout)) resolve(undefined)
    else if (error !== null) {
      const why = `${program} get: ${whyFailed(error)}`
      // What the helper itself says may be secret; a program that cannot be started says nothing.
      reject(new CredentialHelperError(why, isSpawnFailure(error) ? { cause: error } : undefined))
    } else resolve(stdout)
  })
  // It may end without reading.
  child.stdin?.on('error', () => undefined)
  child.stdin?.end(url)
  return promise
}

function whyFailed(error: ExecFileException): string {
  if (error.code === 'ENOENT') return 'no such program in PATH'
  if (error.code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return 'its answer is too long'
  return `it failed (${error.code ?? 'killed'})`
}

function isSpawnFailure(error: ExecFileException): boolean {
  return error.syscall?.startsWith('spawn') === true
}

function readAnswer(program: string, output: string): Credential | undefined {
  const answer = parseObject(output)
  const [username, secret] = [asText(answer?.['Username']), asText(answer?.['Secret'])]
  if (username !== undefined && secret !== undefined) return credentialOf(username, secret)
  // Without what was printed: it may be secret.
  throw new CredentialHelperError(`${program} get: its answer is no credential`)
}
