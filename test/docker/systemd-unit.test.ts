import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import configSchema from '../../config.schema.json' with { type: 'json' }
import { parseArguments } from '../../src/cli/arguments.ts'
import { parseDuration } from '../../src/config/units.ts'

const UNIT = readFileSync(join(import.meta.dirname, '../../docker/chandlery.service'), 'utf8')

const values = (key: string) =>
  [...UNIT.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value = '']) => value)

describe('the systemd unit', () => {
  test('runs the launcher under the Node that npm brings, with a command line that makes sense', () => {
    const [node, launcher, ...args] = values('ExecStart').join().split(' ')
    expect(node).toBe('/opt/chandlery/node_modules/.bin/node')
    expect(launcher).toBe('/opt/chandlery/bin/chandlery.js')
    expect(parseArguments(args)).toMatchObject({
      command: 'serve',
      options: { config: '/etc/chandlery/chandlery.yaml' },
    })
  })

  test('gives running responses the time that Chandlery gives them', () => {
    const timeout = parseDuration(values('TimeoutStopSec').join())
    const { shutdownDelay, shutdownTimeout } = configSchema.properties
    const stopping = parseDuration(shutdownDelay.default) + parseDuration(shutdownTimeout.default)
    expect(timeout).toBeGreaterThan(stopping)
    expect(values('KillSignal')).toEqual(['SIGTERM'])
  })

  test('keeps its data in directories that systemd makes for it', () => {
    const environment = Object.fromEntries(values('Environment').map((text) => text.split('=')))
    expect(environment).toMatchObject({
      CHANDLERY_DIRECTORY: `/var/lib/${values('StateDirectory').join()}`,
      NODE_COMPILE_CACHE: `/var/cache/${values('CacheDirectory').join()}`,
    })
  })

  test('reloads on SIGHUP', () => {
    expect(values('ExecReload')).toEqual(["/bin/sh -c 'kill -HUP $MAINPID'"])
  })
})
