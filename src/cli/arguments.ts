// Reads the command line: the command, its options and its operands. It checks their form only; the
// configuration checks the values.
import { parseArgs } from 'node:util'
import type { Flags } from '../config/env.ts'
import { suggest } from '../config/suggest.ts'
import { type Command, COMMANDS, isCommand, OPTIONS, type OptionName, UsageError } from './usage.ts'

export interface Options extends Flags {
  readonly json?: boolean
}

export interface Arguments {
  readonly command: Command | 'help' | 'version'
  readonly options: Options
  /** The operands of the command. For help, the name of the command to describe, if any. */
  readonly positionals: readonly string[]
}

/** Reads the arguments after the program's name; throws UsageError. Without a command it is `help`. */
export function parseArguments(args: readonly string[]): Arguments {
  const [first, ...rest] = args
  if (first === undefined || first === '--help' || first === '-h') return plain('help')
  if (first === 'help') return plain('help', rest.slice(0, 1).map(commandNamed))
  if (first === '--version' || first === '-v' || first === 'version') return plain('version')
  if (first.startsWith('-')) {
    throw new UsageError(`${first}: options come after the command\n${help()}`)
  }
  return parseCommand(commandNamed(first), rest)
}

function parseCommand(command: Command, args: readonly string[]): Arguments {
  const names: readonly OptionName[] = [...COMMANDS[command].options, 'help']
  const { values, positionals, tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(names.map((name) => [name, optionConfig(name)])),
    allowPositionals: true,
    strict: false,
    tokens: true,
  })
  if (values['help'] === true || values['h'] === true) return plain('help', [command])
  const seen = new Set<string>()
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    checkOption(command, names, token)
    if (seen.has(token.name)) throw wrong(command, `${token.rawName} is given twice`)
    seen.add(token.name)
  }
  checkPositionals(command, positionals)
  return { command, options: toOptions(values), positionals }
}

function optionConfig(name: OptionName): { type: 'string' | 'boolean'; short?: string } {
  const type = 'value' in OPTIONS[name] ? 'string' : 'boolean'
  return name === 'help' ? { type, short: 'h' } : { type }
}

interface OptionToken {
  readonly name: string
  readonly rawName: string
  readonly value: string | undefined
  readonly inlineValue: boolean | undefined
}

function checkOption(command: Command, names: readonly OptionName[], token: OptionToken): void {
  const { rawName, value, inlineValue } = token
  const name = names.find((each) => each === token.name)
  if (name === undefined) {
    const near = suggest(token.name, names)
    const hint = near === undefined ? '' : `; did you mean --${near}?`
    throw wrong(command, `unknown option ${rawName}${hint}`)
  }
  const option = OPTIONS[name]
  if (!('value' in option)) {
    if (value !== undefined) throw wrong(command, `${rawName} takes no value`)
    return
  }
  // Otherwise `--config --listen x` would take --listen as the name of the file.
  if (!value || (!inlineValue && value.startsWith('-'))) {
    throw wrong(command, `${rawName} needs a value: ${rawName} ${option.value}`)
  }
}

function checkPositionals(command: Command, positionals: readonly string[]): void {
  const wanted = COMMANDS[command].positionals
  const missing = wanted[positionals.length]
  if (missing !== undefined) throw wrong(command, `${missing} is missing`)
  const extra = positionals[wanted.length]
  if (extra !== undefined) throw wrong(command, `unexpected operand ${JSON.stringify(extra)}`)
}

function toOptions(values: Readonly<Record<string, unknown>>): Options {
  const text = (name: OptionName, key: keyof Options) =>
    typeof values[name] === 'string' ? { [key]: values[name] } : {}
  return {
    ...text('config', 'config'),
    ...text('registries', 'registries'),
    ...text('listen', 'listen'),
    ...text('admin-listen', 'adminListen'),
    ...text('directory', 'directory'),
    ...text('log-level', 'logLevel'),
    ...(values['json'] === true && { json: true }),
  }
}

function commandNamed(text: string): Command {
  if (isCommand(text)) return text
  const commands = Object.keys(COMMANDS)
  const near = suggest(text, commands)
  const hint = near === undefined ? `one of ${commands.join(', ')}` : `did you mean ${near}?`
  throw new UsageError(`unknown command ${JSON.stringify(text)}; ${hint}\n${help()}`)
}

function plain(command: Arguments['command'], positionals: readonly string[] = []): Arguments {
  return { command, options: {}, positionals }
}

function wrong(command: Command, what: string): UsageError {
  return new UsageError(`${command}: ${what}\n${help(command)}`)
}

function help(command?: Command): string {
  return `try: chandlery ${command === undefined ? '' : `${command} `}--help`
}
