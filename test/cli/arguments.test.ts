import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseArguments } from '../../src/cli/arguments.ts'
import { UsageError } from '../../src/cli/usage.ts'

const parse = (line: string) => parseArguments(line.split(' ').filter(Boolean))

describe('the command line', () => {
  test.each([
    ['', { command: 'help', options: {}, positionals: [] }],
    ['--help', { command: 'help', options: {}, positionals: [] }],
    ['-h', { command: 'help', options: {}, positionals: [] }],
    ['help', { command: 'help', options: {}, positionals: [] }],
    ['help serve', { command: 'help', options: {}, positionals: ['serve'] }],
    ['serve --help', { command: 'help', options: {}, positionals: ['serve'] }],
    ['explain -h', { command: 'help', options: {}, positionals: ['explain'] }],
    ['--version', { command: 'version', options: {}, positionals: [] }],
    ['serve', { command: 'serve', options: {}, positionals: [] }],
    [
      'serve --config c.yaml --registries=r.yaml --listen :1 --admin-listen=[::1]:2 --directory d --log-level debug',
      {
        command: 'serve',
        options: {
          config: 'c.yaml',
          registries: 'r.yaml',
          listen: ':1',
          adminListen: '[::1]:2',
          directory: 'd',
          logLevel: 'debug',
        },
        positionals: [],
      },
    ],
    [
      'check --config c.yaml --json',
      { command: 'check', options: { config: 'c.yaml', json: true }, positionals: [] },
    ],
    [
      'explain --json alpine:3',
      { command: 'explain', options: { json: true }, positionals: ['alpine:3'] },
    ],
    [
      'explain alpine --config=-odd',
      { command: 'explain', options: { config: '-odd' }, positionals: ['alpine'] },
    ],
    ['schema', { command: 'schema', options: {}, positionals: [] }],
  ])('%j is understood', (line, expected) => {
    expect(parse(line)).toEqual(expected)
  })
})

describe('the wrong usage', () => {
  test.each([
    ['sevre', 'unknown command "sevre"; did you mean serve?\ntry: chandlery --help'],
    [
      'frobnicate',
      'unknown command "frobnicate"; one of serve, check, explain, schema\ntry: chandlery --help',
    ],
    ['help me', 'unknown command "me"'],
    ['--config x', '--config: options come after the command'],
    [
      'serve --confg x',
      'serve: unknown option --confg; did you mean --config?\ntry: chandlery serve --help',
    ],
    ['serve --json', 'serve: unknown option --json'],
    ['serve -x', 'serve: unknown option -x'],
    ['serve --config', 'serve: --config needs a value: --config FILE'],
    ['serve --config --listen :1', 'serve: --config needs a value: --config FILE'],
    ['serve --config=', 'serve: --config needs a value: --config FILE'],
    ['check --json=yes', 'check: --json takes no value'],
    ['serve --listen :1 --listen :2', 'serve: --listen is given twice'],
    ['serve now', 'serve: unexpected operand "now"'],
    ['explain', 'explain: IMAGE is missing\ntry: chandlery explain --help'],
    ['explain a b', 'explain: unexpected operand "b"'],
    ['check __proto__', 'unexpected operand'],
    ['constructor', 'unknown command'],
  ])('%s is refused with what is wrong and where help is', (line, expected) => {
    expect(() => parse(line)).toThrow(UsageError)
    expect(() => parse(line)).toThrow(expected)
  })
})

test('any arguments are understood or refused with a UsageError', () => {
  const word = fc.constantFrom(
    'serve',
    'check',
    'explain',
    'help',
    '--',
    '-',
    '--config',
    '--json',
    '--help',
    '--no-json',
    '--__proto__',
    'x',
    '',
    '--listen=:1',
    '-hx',
  )
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string()), { maxLength: 6 }), (args) => {
      try {
        expect(parseArguments(args)).toHaveProperty('command')
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError)
      }
    }),
  )
})
