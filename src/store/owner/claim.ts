// A claim to a directory is a small file that identifies a server. This file writes, reads and
// parses claims, and finds out whether the server behind one is alive.

import { randomUUID } from 'node:crypto'
import { open, readFile, readlink } from 'node:fs/promises'
import { hostname } from 'node:os'
import { errnoOf, isAbsent } from '../disk/errno.ts'
import { isCount, isRecord } from '../disk/json.ts'

export interface Claim {
  readonly id: string
  readonly host: string
  readonly pid: number
  /**
   * Set on Linux only, as `pidNamespace` and `startTime` are: together they identify the process.
   */
  readonly bootId?: string
  readonly pidNamespace?: string
  /** Clock ticks since boot. It distinguishes the process from a later one with the same pid. */
  readonly startTime?: string
  /** The address on which the server answers the registry API. */
  readonly listen: string
  /** ISO 8601; only for people to read. */
  readonly since: string
}

/**
 * A claim as read. `pulse` changes with every heartbeat. `claim` is undefined if its file cannot be
 * parsed.
 */
export interface SeenClaim {
  readonly claim: Claim | undefined
  readonly pulse: string
}

/** Where a pid is unique: one boot of one kernel, and one pid namespace. */
export interface PidScope {
  readonly bootId: string
  readonly pidNamespace: string
}

/** Returns this process's scope, or undefined if there is no /proc. */
export async function findPidScope(): Promise<PidScope | undefined> {
  try {
    const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8')
    return { bootId: bootId.trim(), pidNamespace: await readlink('/proc/self/ns/pid') }
  } catch {
    return undefined
  }
}

/** Returns a new claim of this process. */
export async function makeClaim(listen: string, scope: PidScope | undefined): Promise<Claim> {
  const found = scope === undefined ? undefined : await findProcess(process.pid)
  return {
    id: randomUUID(),
    host: hostname(),
    pid: process.pid,
    ...(scope !== undefined && found !== undefined && { ...scope, startTime: found.startTime }),
    listen,
    since: new Date().toISOString(),
  }
}

/** Reads a claim, or returns undefined if its file is gone. */
export async function readClaim(path: string): Promise<SeenClaim | undefined> {
  try {
    // Open the file: on NFS, stat alone may be answered from the client's attribute cache.
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

/**
 * Reports whether the claim's process is alive, or undefined if that cannot be known from here, as
 * for another host or container.
 */
export async function isAlive(
  claim: Claim,
  scope: PidScope | undefined,
): Promise<boolean | undefined> {
  const { bootId, pidNamespace, startTime } = claim
  if (scope === undefined || startTime === undefined) return undefined
  if (bootId !== scope.bootId || pidNamespace !== scope.pidNamespace) return undefined
  const found = await findProcess(claim.pid)
  if (found !== undefined) return found.startTime === startTime && !found.ended
  return isUnusedPid(claim.pid) ? false : undefined
}

interface FoundProcess {
  readonly startTime: string
  /** True for a zombie: it has ended, but its parent has not waited for it yet. */
  readonly ended: boolean
}

/**
 * Looks a process up in /proc/pid/stat (proc(5)). Returns undefined if there is no such process, or
 * if /proc hides it (hidepid).
 */
async function findProcess(pid: number): Promise<FoundProcess | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The second field is the command in parentheses, which may contain spaces and parentheses.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const [state, startTime] = [fields[0], fields[19]]
    return startTime === undefined
      ? undefined
      : { startTime, ended: state === 'Z' || state === 'X' }
  } catch {
    return undefined
  }
}

function isUnusedPid(pid: number): boolean {
  try {
    process.kill(pid, 0) // signal 0 only checks that the process exists
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
