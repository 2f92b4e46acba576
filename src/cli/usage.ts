// The commands and what each takes: one table for the parser and the help texts.

/** A command line that cannot be understood; the message ends with where help is. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export type Command = 'serve' | 'check' | 'explain' | 'schema'

interface Option {
  /** The placeholder of its value; absent for a switch. */
  readonly value?: string
  readonly text: string
}

/** Every option of every command. */
export const OPTIONS = {
  config: { value: 'FILE', text: 'configuration file (CHANDLERY_CONFIG)' },
  registries: {
    value: 'FILE',
    text: 'K3s registries.yaml, read as K3s reads it (CHANDLERY_REGISTRIES)',
  },
  listen: {
    value: 'ADDRESS',
    text: 'address of the registry API, default 0.0.0.0:5000 (CHANDLERY_LISTEN)',
  },
  'admin-listen': {
    value: 'ADDRESS',
    text: 'address of metrics and health, default 127.0.0.1:5001 (CHANDLERY_ADMIN_LISTEN)',
  },
  directory: {
    value: 'DIRECTORY',
    text: 'where content is kept, default ./data (CHANDLERY_DIRECTORY)',
  },
  'log-level': {
    value: 'LEVEL',
    text: 'fatal, error, warn, info, debug, trace or silent, default info (CHANDLERY_LOG_LEVEL)',
  },
  json: { text: 'print JSON' },
  help: { text: 'print this help' },
} as const satisfies Record<string, Option>

export type OptionName = keyof typeof OPTIONS

interface Usage {
  readonly summary: string
  readonly details: string
  readonly positionals: readonly string[]
  readonly options: readonly OptionName[]
}

/** Whether a command has this name. */
export function isCommand(name: string): name is Command {
  return Object.hasOwn(COMMANDS, name)
}

/** Every command. */
export const COMMANDS: Readonly<Record<Command, Usage>> = {
  serve: {
    summary: 'serve registries through the cache',
    details:
      'Serves the well-known public registries, or those of the configuration, and keeps what\nwas asked for. A flag wins over its variable, a variable over the file.',
    positionals: [],
    options: ['config', 'registries', 'listen', 'admin-listen', 'directory', 'log-level'],
  },
  check: {
    summary: 'validate the configuration and print what it amounts to',
    details:
      'Reports every problem with its place on standard error and prints the effective\nconfiguration, without secrets, on standard output. Exits with 1 if there is an\nerror, with 2 if one is in the flags.',
    positionals: [],
    options: ['config', 'registries', 'listen', 'admin-listen', 'directory', 'log-level', 'json'],
  },
  explain: {
    summary: 'show what would happen to a pull of IMAGE, without doing it',
    details:
      'Prints the registry, the rewrite rule and the name it gives, the endpoints in their\norder, the scope that tokens are asked for, and what the cache holds.',
    positionals: ['IMAGE'],
    options: ['config', 'registries', 'directory', 'json'],
  },
  schema: {
    summary: 'print the JSON Schema of the configuration file',
    details: 'For editors: the content of config.schema.json.',
    positionals: [],
    options: [],
  },
}
