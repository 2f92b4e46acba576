// The help texts, generated from the table of commands and options.
import { type Command, COMMANDS, isCommand, OPTIONS, type OptionName } from './usage.ts'

/** Returns the help of one command, or the overview. */
export function helpText(about?: string): string {
  return about !== undefined && isCommand(about) ? commandHelp(about) : overview()
}

function overview(): string {
  const commands = Object.entries(COMMANDS).map(([name, { positionals, summary }]) => {
    return `  ${[name, ...positionals].join(' ').padEnd(16)}${summary}`
  })
  return [
    'chandlery: a pull-through caching OCI registry proxy',
    '',
    'usage: chandlery COMMAND [OPTIONS]',
    '',
    ...commands,
    '',
    'chandlery COMMAND --help    the options of a command',
    'chandlery --version         the version',
    '',
    'Exit codes: 0 done, 1 it failed, 2 wrong usage.',
    '',
  ].join('\n')
}

function commandHelp(command: Command): string {
  const { positionals, details, options } = COMMANDS[command]
  const names: readonly OptionName[] = [...options, 'help']
  const rows = names.map((name): [string, string] => [shape(name), OPTIONS[name].text])
  const width = Math.max(...rows.map(([left]) => left.length)) + 2
  const usage = ['chandlery', command, ...positionals, ...(options.length > 0 ? ['[OPTIONS]'] : [])]
  return [
    `usage: ${usage.join(' ')}`,
    '',
    details,
    '',
    ...rows.map(([left, right]) => `  ${left.padEnd(width)}${right}`),
    '',
  ].join('\n')
}

function shape(name: OptionName): string {
  const option = OPTIONS[name]
  return 'value' in option ? `--${name} ${option.value}` : `--${name}`
}
