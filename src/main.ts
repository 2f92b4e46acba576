// The command line: which command runs, and how its outcome becomes an exit code (0 done, 1 it
// failed, 2 wrong usage).
import { createRequire } from 'node:module'
import { Chandlery } from './chandlery.ts'
import { type Options, parseArguments } from './cli/arguments.ts'
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
import { explainDeps } from './explain-deps.ts'
import { OciError } from './oci/errors.ts'

const { version } = createRequire(import.meta.url)('../package.json') as { version: string }

async function run(args: readonly string[], io: Io): Promise<number> {
  const { command, options, positionals } = parseArguments(args)
  switch (command) {
    case 'help':
      io.stdout.write(helpText(positionals[0]))
      return 0
    case 'version':
      io.stdout.write(`chandlery ${version}\n`)
      return 0
    case 'schema':
      return runSchema(io)
    case 'check':
      return await runCheck(options, io)
    case 'explain':
      return await runExplain(positionals[0] ?? '', options, io)
    case 'serve':
      return await runServe(options, io, (config, logger) => {
        return new Chandlery(config, { version, logger })
      })
  }
}

async function runExplain(image: string, options: Options, io: Io): Promise<0> {
  const { config, warnings } = await loadConfig(options, io.env)
  for (const warning of warnings) io.stderr.write(`${formatProblem(warning)}\n`)
  const explanation = await explain(image, explainDeps(config, Date.now()))
  const write = (text: string) => void io.stdout.write(text)
  printExplanation(explanation, { json: options.json === true, write })
  return 0
}

/** Wrong usage is 2, every other error 1; what we foresaw is told without a stack. */
function fail(error: unknown, io: Io): number {
  const foreseen =
    error instanceof ConfigError || error instanceof OciError || error instanceof UsageError
  const text =
    foreseen || !(error instanceof Error) ? String((error as Error).message) : error.stack
  io.stderr.write(`${text}\n`)
  return error instanceof UsageError ? 2 : 1
}

const io: Io = { stdout: process.stdout, stderr: process.stderr, env: process.env }
process.exitCode = await run(process.argv.slice(2), io).catch((error: unknown) => fail(error, io))
