// A claim to a directory: a small file that says which server it is, and whether that server still lives.

import { randomUUID } from 'node:crypto'
import { open, readFile, readlink } from 'node:fs/promises'
import { hostname } from 'node:os'
import { errnoOf, isAbsent } from '../disk/errno.ts'
import { isCount, isRecord } from '../disk/json.ts'

export interface Claim {
  readonly id: string
  readonly host: string
  readonly pid: number
  /** With `pidNamespace` and `startTime`: on Linux only, where the process can be looked up. */
  readonly bootId?: string
  readonly pidNamespace?: string
  /** Clock ticks after boot: tells the process from a later one with its pid. */
  readonly startTime?: string
  /** Where it serves the registry API. */
  readonly listen: string
  /** ISO 8601, for people. */
  readonly since: string
}

/** A claim as it stands; `pulse` changes with every heartbeat. `claim` is undefined while it cannot be read. */
export interface SeenClaim {
  readonly claim: Claim | undefined
  readonly pulse: string
}

/** Which kernel and which pid namespace this is; undefined where there is no /proc. */
export interface Place {
  readonly bootId: string
  readonly pidNamespace: string
}

export async function findPlace(): Promise<Place | undefined> {
  try {
    const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8')
    return { bootId: bootId.trim(), pidNamespace: await readlink('/proc/self/ns/pid') }
  } catch {
    return undefined
  }
}

/** A new claim of this process. */
export async function makeClaim(listen: string, place: Place | undefined): Promise<Claim> {
  const found = place === undefined ? undefined : await findProcess(process.pid)
  return {
    id: randomUUID(),
    host: hostname(),
    pid: process.pid,
    ...(place !== undefined && found !== undefined && { ...place, startTime: found.startTime }),
    listen,
    since: new Date().toISOString(),
  }
}

/** Undefined: there is no such file any more. */
export async function readClaim(path: string): Promise<SeenClaim | undefined> {
  try {
    // Opening, unlike stat, makes NFS ask the server.
    const file = await open(path, 'r')
    try {
      const { mtimeMs, size } = await file.stat()
      const text = await file.readFile('utf8')
      return { claim: parseClaim(text), pulse: `${mtimeMs} ${size}` }
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/** Whether its process lives; undefined where that cannot be known from here (another host or container). */
export async function isAlive(
  claim: Claim,
  place: Place | undefined,
): Promise<boolean | undefined> {
  const { bootId, pidNamespace, startTime } = claim
  if (place === undefined || startTime === undefined) return undefined
  if (bootId !== place.bootId || pidNamespace !== place.pidNamespace) return undefined
  const found = await findProcess(claim.pid)
  if (found !== undefined) return found.startTime === startTime && !found.ended
  return isNoProcess(claim.pid) ? false : undefined
}

interface FoundProcess {
  readonly startTime: string
  /** A zombie: killed, but its parent has not asked for it yet. */
  readonly ended: boolean
}

/** Undefined: no such process, or /proc does not show it (hidepid). proc(5), /proc/pid/stat. */
async function findProcess(pid: number): Promise<FoundProcess | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The second field is the command in parentheses, which may itself hold spaces and parentheses.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const [state, startTime] = [fields[0], fields[19]]
    return startTime === undefined
      ? undefined
      : { startTime, ended: state === 'Z' || state === 'X' }
  } catch {
    return undefined
  }
}

function isNoProcess(pid: number): boolean {
  try {
    process.kill(pid, 0) // only asks
    return false
  } catch (error) {
    return errnoOf(error) === 'ESRCH'
  }
}

function parseClaim(text: string): Claim | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isClaim(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isClaim(value: unknown): value is Claim {
  if (!isRecord(value) || !isCount(value.pid) || value.pid === 0) return false
  const texts = [value.id, value.host, value.listen, value.since]
  const optional = [value.bootId, value.pidNamespace, value.startTime].filter(
    (v) => v !== undefined,
  )
  return [...texts, ...optional].every((text) => typeof text === 'string')
}
