import { describe, expect, test } from 'vitest'
import { readOverrides } from '../../src/config/env.ts'
import { formatProblem } from '../../src/config/problem.ts'

const messages = (env: Record<string, string>, flags = {}) =>
  readOverrides(flags, env).problems.map(formatProblem)

test('every flag has its variable, and the flag wins', () => {
  const env = {
    CHANDLERY_CONFIG: 'env.yaml',
    CHANDLERY_REGISTRIES: 'env-registries.yaml',
    CHANDLERY_LISTEN: ':1',
    CHANDLERY_ADMIN_LISTEN: ':2',
    CHANDLERY_DIRECTORY: '/env',
    CHANDLERY_LOG_LEVEL: 'warn',
  }
  expect(readOverrides({}, env)).toEqual({
    config: 'env.yaml',
    registries: 'env-registries.yaml',
    listen: { host: undefined, port: 1 },
    adminListen: { host: undefined, port: 2 },
    directory: '/env',
    logLevel: 'warn',
    problems: [],
  })
  const flags = { config: 'flag.yaml', listen: ':3', logLevel: 'debug' }
  expect(readOverrides(flags, env)).toMatchObject({
    config: 'flag.yaml',
    listen: { port: 3 },
    logLevel: 'debug',
    adminListen: { port: 2 },
  })
})

test('an empty variable counts as unset', () => {
  expect(readOverrides({}, { CHANDLERY_LISTEN: '', CHANDLERY_CONFIG: '' })).toEqual({
    problems: [],
  })
})

test('a wrong value names the flag or variable it came from', () => {
  expect(messages({ CHANDLERY_LISTEN: '5000' })).toEqual([
    'CHANDLERY_LISTEN: "5000" is not an address to listen on; write ":5000" to listen on every address',
  ])
  expect(messages({ CHANDLERY_LISTEN: ':1' }, { listen: 'x', logLevel: 'loud' })).toEqual([
    '--listen: "x" is not an address to listen on; write host:port, such as 0.0.0.0:5000, :5000 or [::1]:5000',
    '--log-level: "loud" is not a log level; write one of fatal, error, warn, info, debug, trace, silent',
  ])
})

describe('a variable that is not a setting', () => {
  test('is a warning with a suggestion where it is misspelt', () => {
    expect(
      messages({ CHANDLERY_LISEN: ':1', CHANDLERY_LOGLEVEL: 'x', CHANDLERY_ZZZZZZ: 'x' }),
    ).toEqual([
      'CHANDLERY_LISEN: warning: unknown variable, ignored; did you mean CHANDLERY_LISTEN?',
      'CHANDLERY_LOGLEVEL: warning: unknown variable, ignored; did you mean CHANDLERY_LOG_LEVEL?',
      'CHANDLERY_ZZZZZZ: warning: unknown variable, ignored',
    ])
  })

  test('is ignored where Kubernetes sets it for Services called chandlery or chandlery-…', () => {
    const env = {
      CHANDLERY_SERVICE_HOST: '10.0.0.1',
      CHANDLERY_SERVICE_PORT: '5000',
      CHANDLERY_SERVICE_PORT_REGISTRY: '5000',
      CHANDLERY_PORT: 'tcp://10.0.0.1:5000',
      CHANDLERY_PORT_5000_TCP: 'tcp://10.0.0.1:5000',
      CHANDLERY_PORT_5000_TCP_PROTO: 'tcp',
      CHANDLERY_PORT_5000_TCP_PORT: '5000',
      CHANDLERY_PORT_5000_TCP_ADDR: '10.0.0.1',
      CHANDLERY_ADMIN_SERVICE_HOST: '10.0.0.2',
      CHANDLERY_ADMIN_PORT: 'tcp://10.0.0.2:5001',
      CHANDLERY_ADMIN_PORT_5001_TCP_ADDR: '10.0.0.2',
    }
    expect(readOverrides({}, env)).toEqual({ problems: [] })
  })

  test('is a warning where it is CHANDLERY_PORT with a bare port, meant as an address to listen on', () => {
    expect(messages({ CHANDLERY_PORT: '5000' })).toEqual([
      'CHANDLERY_PORT: warning: unknown variable, ignored; did you mean CHANDLERY_LISTEN?',
    ])
  })

  test('is ignored where it belongs to another program', () => {
    expect(messages({ PATH: '/bin', CHANDLER: 'x', MIRROR_PASSWORD: 'y' })).toEqual([])
  })
})
