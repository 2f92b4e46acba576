// The commands with their options and operands: one table for the parser and the help texts.

/** Thrown for a wrong command line. The message ends with the command that shows help. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export type Command = 'serve' | 'check' | 'explain' | 'schema'

interface Option {
  /** The placeholder for the option's value. A switch has none. */
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
    text: 'address for metrics and health, default 127.0.0.1:5001 (CHANDLERY_ADMIN_LISTEN)',
  },
  directory: {
    value: 'DIRECTORY',
    text: 'directory for cached content, default ./data (CHANDLERY_DIRECTORY)',
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

/** Reports whether a command has this name. */
export function isCommand(name: string): name is Command {
  return Object.hasOwn(COMMANDS, name)
}

/** Every command. */
export const COMMANDS: Readonly<Record<Command, Usage>> = {
  serve: {
    summary: 'serve registries through the cache',
    details:
      'Serves the well-known public registries, or those in the configuration, and caches what\nclients pull. A flag wins over its variable, a variable over the file.',
    positionals: [],
    options: ['config', 'registries', 'listen', 'admin-listen', 'directory', 'log-level'],
  },
  check: {
    summary: 'validate the configuration and print the effective one',
    details:
      'Reports every problem with its place on standard error and prints the effective\nconfiguration, without secrets, on standard output. Exits with 1 if there is an\nerror, or with 2 if an error is in the flags.',
    positionals: [],
    options: ['config', 'registries', 'listen', 'admin-listen', 'directory', 'log-level', 'json'],
  },
  explain: {
    summary: 'show how IMAGE would be pulled, without sending any request',
    details:
      'Prints the registry, the endpoints in their order with the rewrite rule that applies\nand the resulting name, the scope of tokens, and what the cache holds.',
    positionals: ['IMAGE'],
    options: ['config', 'registries', 'directory', 'json'],
  },
  schema: {
    summary: 'print the JSON Schema of the configuration file',
    details: 'Prints the content of config.schema.json, for editors.',
    positionals: [],
    options: [],
  },
}
