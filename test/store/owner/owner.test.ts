import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import type { ChildProcess } from 'node:child_process'
import { mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { findPidScope, isAlive, makeClaim } from '../../../src/store/owner/claim.ts'
import type { Claim } from '../../../src/store/owner/claim.ts'
import { takeOwnership } from '../../../src/store/owner/owner.ts'
import type { Ownership, OwnershipOptions } from '../../../src/store/owner/owner.ts'
import { hangFiles } from '../../support/failing-files.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import type { TemporaryDirectory } from '../../support/temporary-directory.ts'
import { until } from '../../support/until.ts'

const HERE = { listen: '127.0.0.1:5000' }
const quick = { pollMs: 10, heartbeatMs: 50, staleMs: 300 } satisfies OwnershipOptions

let directory: TemporaryDirectory
const owned: Ownership[] = []
const children: ChildProcess[] = []

beforeEach(async () => {
  directory = await temporaryDirectory()
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await Promise.all(owned.splice(0).map((ownership) => ownership.release()))
  await directory.remove()
})

async function take(options: OwnershipOptions = {}): Promise<Ownership> {
  const ownership = await takeOwnership(directory.path, HERE, { ...quick, ...options })
  owned.push(ownership)
  return ownership
}

async function claims(): Promise<string[]> {
  return (await readdir(directory.join('owner'))).toSorted()
}

/** Writes a claim as a server on another host would. */
async function leaveClaim(changes: Partial<Claim>): Promise<Claim> {
  const claim = { ...(await makeClaim('10.0.0.9:5000', await findPidScope())), ...changes }
  await mkdir(directory.join('owner'), { recursive: true })
  await writeFile(directory.join('owner', `${claim.id}.json`), JSON.stringify(claim))
  return claim
}

/** Starts another process and resolves when it owns the directory. */
async function otherProcess(): Promise<ChildProcess> {
  const script = join(import.meta.dirname, 'owning-process.ts')
  const child = spawn(process.execPath, [script, directory.path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return child
}

describe('takeOwnership', () => {
  test('takes a free directory at once, and says who it is', async () => {
    const { claim } = await take()
    expect(claim).toMatchObject({ pid: process.pid, listen: '127.0.0.1:5000' })
    expect(await claims()).toEqual([`${claim.id}.json`])
    const text = await readFile(directory.join('owner', `${claim.id}.json`), 'utf8')
    expect(JSON.parse(text)).toEqual(claim)
  })

  test('makes the directory where there is none', async () => {
    const path = directory.join('a', 'b')
    const ownership = await takeOwnership(path, HERE, quick)
    expect(await readdir(join(path, 'owner'))).toHaveLength(1)
    await ownership.release()
    await ownership.release()
    expect(await readdir(join(path, 'owner'))).toEqual([])
  })

  test('waits in a second server, names the owner once, claims nothing, and takes over when it is released', async () => {
    const first = await take()
    const before = await claims()
    const named: Claim[] = []
    const second = take({ onWaiting: (claim) => named.push(claim) })
    await until(() => named.length > 0)
    expect(named).toEqual([first.claim])
    expect((await claims()).filter((name) => !name.endsWith('.waiting'))).toEqual(before)
    await first.release()
    const { claim } = await second
    expect(claim.id).not.toBe(first.claim.id)
    expect(await claims()).toEqual([`${claim.id}.json`])
  })

  test('lets the owner know whether somebody waits, and of nobody who no longer does', async () => {
    const first = await take()
    await writeFile(directory.join('owner', `${randomUUID()}.waiting`), '') // of a server that was killed
    for (let times = 0; times < 3; times++) expect(await first.isWanted()).toBe(false)
    const stop = new AbortController()
    const second = take({ signal: stop.signal })
    await expect.poll(() => first.isWanted()).toBe(true)
    stop.abort(new Error('shutting down'))
    await expect(second).rejects.toThrow('shutting down')
    expect(await first.isWanted()).toBe(false)
  })

  test('says again that it waits where it waited before the owner asked', async () => {
    const first = await take()
    const waiting = take({ pollMs: 60_000 })
    await expect.poll(claims).toHaveLength(2)
    expect(await first.isWanted()).toBe(false)
    await expect.poll(() => first.isWanted()).toBe(true)
    await first.release()
    await waiting
  })

  test("ends its waiting with the signal's reason, and leaves nothing", async () => {
    const first = await take()
    const stop = new AbortController()
    const second = take({ signal: stop.signal })
    await until(async () => (await claims()).length === 2)
    stop.abort(new Error('shutting down'))
    await expect(second).rejects.toThrow('shutting down')
    await expect(take({ signal: stop.signal })).rejects.toThrow('shutting down')
    expect(await claims()).toEqual([`${first.claim.id}.json`])
  })

  test('leaves nothing and clears nothing when it is given up while the disk hangs', async () => {
    const dead = await leaveClaim({ startTime: '1' })
    using disk = await hangFiles('mkdir')
    const stop = new AbortController()
    const taking = take({ signal: stop.signal }).catch((error: unknown) => error)
    await expect.poll(() => disk.count).toBe(1)
    stop.abort(new Error('shutting down'))
    disk[Symbol.dispose]()
    expect(await taking).toEqual(new Error('shutting down'))
    expect(await claims()).toEqual([`${dead.id}.json`])
  })

  test('takes over at once from a process that was killed', async () => {
    const child = await otherProcess()
    let waited = 0
    const taking = take({ staleMs: 60_000, onWaiting: () => waited++ })
    await until(() => waited === 1)
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await exited
    const startedMs = performance.now()
    const { claim } = await taking
    expect(performance.now() - startedMs).toBeLessThan(2000)
    expect(await claims()).toEqual([`${claim.id}.json`])
  })

  test('does not take over from a process on this machine that is stopped, however long it is silent', async () => {
    const child = await otherProcess()
    child.kill('SIGSTOP')
    const stop = new AbortController()
    const taking = take({ signal: stop.signal, staleMs: 50 })
    const outcome = await Promise.race([taking.then(() => 'taken'), sleep(500, 'still waiting')])
    expect(outcome).toBe('still waiting')
    stop.abort(new Error('enough'))
    await expect(taking).rejects.toThrow('enough')
  })

  test('takes over at once from a claim whose pid is now another process', async () => {
    await leaveClaim({ startTime: '1' })
    await take({ staleMs: 60_000, signal: AbortSignal.timeout(5000) })
  })

  test.each([
    ['another host', { bootId: 'another' }],
    ['another container', { pidNamespace: 'pid:[1]' }],
  ])('waits for a claim from %s until it has not changed for long enough', async (_, changes) => {
    const claim = await leaveClaim(changes)
    const path = directory.join('owner', `${claim.id}.json`)
    let taken = false
    const taking = take({ staleMs: 600 }).then(() => (taken = true))
    // For longer than that.
    for (let n = 1; n <= 5; n++) {
      await sleep(150)
      expect(taken).toBe(false)
      await utimes(path, n, n) // any change counts, even if that clock is wrong
    }
    await taking
    expect(await claims()).not.toContain(`${claim.id}.json`)
  })

  test('waits in the same way for a claim that cannot be read', async () => {
    await mkdir(directory.join('owner'))
    await writeFile(directory.join('owner', `${crypto.randomUUID()}.json`), '{"half')
    const startedMs = performance.now()
    await take()
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(quick.staleMs)
    expect(await claims()).toHaveLength(1)
  })

  test('works without /proc, by heartbeat alone', async () => {
    const first = await take({ pidScope: 'unknown' })
    expect(first.claim.startTime).toBeUndefined()
    let taken = false
    const second = take({ pidScope: 'unknown', staleMs: 500 }).then((ownership) => {
      taken = true
      return ownership
    })
    await sleep(700)
    expect(taken).toBe(false)
    await first.release()
    await second
  })

  test('gives the directory to one after the other of many that wait, and never to two', async () => {
    await leaveClaim({ startTime: '1' })
    let owners = 0
    let most = 0
    const one = async (): Promise<void> => {
      const ownership = await takeOwnership(directory.path, HERE, quick)
      owners++
      most = Math.max(most, owners)
      await sleep(10)
      owners--
      await ownership.release()
    }
    await Promise.all(Array.from({ length: 6 }, one))
    expect(most).toBe(1)
    expect(await claims()).toEqual([])
  })

  test('lets the owner notice once that its claim is gone, and does not bring it back', async () => {
    let lost = 0
    const { claim } = await take({ onLost: () => lost++ })
    await rm(directory.join('owner', `${claim.id}.json`))
    await expect.poll(() => lost).toBe(1)
    await sleep(150)
    expect(lost).toBe(1)
    expect(await claims()).toEqual([])
  })

  test('claims a directory again that was emptied, unless another was faster', async () => {
    let lost = 0
    const { claim } = await take({ onLost: () => lost++ })
    await rm(directory.join('owner'), { recursive: true })
    await expect.poll(claims).toEqual([`${claim.id}.json`])
    await sleep(150)
    expect(lost).toBe(0)
    await rm(directory.join('owner'), { recursive: true })
    await take()
    await expect.poll(() => lost).toBe(1)
    expect(await claims()).toHaveLength(1)
  })

  test('does not report a release as a loss', async () => {
    let lost = 0
    const ownership = await take({ onLost: () => lost++ })
    await ownership.release()
    await sleep(150)
    expect(lost).toBe(0)
  })

  test('names the directory and the remedy where it cannot be made', async () => {
    await writeFile(directory.join('file'), '')
    await expect(takeOwnership(directory.join('file'), HERE, quick)).rejects.toThrow(
      /cannot use the storage directory .*file \((ENOTDIR|EEXIST)\): a part of the path is a file/,
    )
  })
})

describe('isAlive', () => {
  test('recognises this process, and is undecided where it cannot look', async () => {
    const scope = await findPidScope()
    const claim = await makeClaim('x', scope)
    expect(await isAlive(claim, scope)).toBe(true)
    expect(await isAlive({ ...claim, startTime: '5' }, scope)).toBe(false)
    expect(await isAlive({ ...claim, pid: 2 ** 22 + 1 }, scope)).toBe(false)
    expect(await isAlive({ ...claim, bootId: 'other' }, scope)).toBeUndefined()
    expect(await isAlive(claim, undefined)).toBeUndefined()
  })

  test('counts a zombie as dead', async () => {
    // The shell's child becomes a zombie: the shell is replaced by sleep, which never waits for it.
    const child = spawn('sh', ['-c', 'sleep 0.2 & echo $!; exec sleep 30'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    children.push(child)
    const pid = await new Promise<number>((resolve) => {
      child.stdout.once('data', (text: Buffer) => resolve(Number(text.toString())))
    })
    await expect
      .poll(async () => (await readFile(`/proc/${pid}/stat`, 'utf8')).includes(') Z '))
      .toBe(true)
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!
    const scope = await findPidScope()
    const claim = { ...(await makeClaim('x', scope)), pid, startTime }
    expect(await isAlive(claim, scope)).toBe(false)
  })
})
