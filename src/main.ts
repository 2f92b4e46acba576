// The command line: runs a command and turns its outcome into an exit code (0 done, 1 failed, 2 wrong
// usage).
import packageJson from '../package.json' with { type: 'json' }
import { Chandlery } from './app/chandlery.ts'
import { type Arguments, type Options, parseArguments } from './cli/arguments.ts'
import { runCheck } from './cli/check.ts'
import { explain } from './cli/explain.ts'
import { helpText } from './cli/help.ts'
import type { Io } from './cli/io.ts'
import { printExplanation } from './cli/print-explanation.ts'
import { runSchema } from './cli/schema.ts'
import { runServe } from './cli/serve.ts'
import { UsageError } from './cli/usage.ts'
import { loadConfig } from './config/load.ts'
import { ConfigError, formatProblem } from './config/problem.ts'
import { explainDeps } from './app/explain-deps.ts'
import { OciError } from './oci/errors.ts'
import { parseImage } from './oci/reference.ts'
import { proxiesOf } from './upstream/network/proxy/egress-proxy.ts'

const { version } = packageJson

type Run = (args: Arguments, io: Io) => number | Promise<number>

const COMMANDS: Readonly<Record<Arguments['command'], Run>> = {
  help: ({ positionals }, io) => print(io, helpText(positionals[0])),
  version: (_args, io) => print(io, `chandlery ${version}\n`),
  schema: (_args, io) => runSchema(io),
  check: ({ options }, io) => runCheck(options, io),
  explain: ({ options, positionals }, io) => runExplain(positionals[0] ?? '', options, io),
  serve: ({ options }, io) =>
    runServe(options, io, ({ loaded, load, logger }) => {
      const proxies = proxiesOf(io.env)
      return new Chandlery(loaded.config, { version, logger, proxies, reloads: { loaded, load } })
    }),
}

async function run(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv)
  return await COMMANDS[args.command](args, io)
}

function print(io: Io, text: string): 0 {
  io.stdout.write(text)
  return 0
}

async function runExplain(image: string, options: Options, io: Io): Promise<0> {
  const { config, warnings } = await loadConfig(options, io.env)
  for (const warning of warnings) io.stderr.write(`${formatProblem(warning)}\n`)
  checkImage(image, config.defaultRegistry)
  const explanation = await explain(image, explainDeps(config, Date.now(), proxiesOf(io.env)))
  const write = (text: string) => void io.stdout.write(text)
  printExplanation(explanation, { json: options.json === true, write })
  return 0
}

/** A text that is not an image is wrong usage; an image of a registry that is not served is not. */
function checkImage(image: string, defaultRegistry: string): void {
  try {
    parseImage(image, defaultRegistry)
  } catch (error) {
    if (!(error instanceof OciError)) throw error
    throw new UsageError(`explain: ${error.message}\ntry: chandlery explain --help`)
  }
}

/** Prints the error and returns the exit code. Expected errors are printed without a stack. */
function fail(error: unknown, io: Io): number {
  io.stderr.write(`${describe(error)}\n`)
  const isUsage = error instanceof UsageError || (error instanceof ConfigError && error.isUsage)
  return isUsage ? 2 : 1
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const foreseen = [ConfigError, OciError, UsageError].some((kind) => error instanceof kind)
  return foreseen ? error.message : (error.stack ?? error.message)
}

const io: Io = { stdout: process.stdout, stderr: process.stderr, env: process.env }
process.exitCode = await run(process.argv.slice(2), io).catch((error: unknown) => fail(error, io))
