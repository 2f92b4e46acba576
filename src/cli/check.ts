// `chandlery check`: validates and lints the configuration, and prints the effective one.
import { effectiveConfig, toPlain, toYaml } from '../config/effective.ts'
import { type Loaded, loadConfig } from '../config/load.ts'
import { ConfigError, formatProblem, type Problem } from '../config/problem.ts'
import type { Options } from './arguments.ts'
import type { Io } from './io.ts'

/**
 * Prints problems to stderr and the effective configuration to stdout. Returns the exit code: 1 if
 * there is an error, 2 if an error is in the flags.
 */
export async function runCheck(options: Options, io: Io): Promise<0 | 1 | 2> {
  const { json, ...flags } = options
  const result = await load(flags, io)
  const problems = 'config' in result ? result.warnings : result.problems
  if (json) io.stdout.write(toJson(result, problems))
  else {
    for (const problem of problems) io.stderr.write(`${formatProblem(problem)}\n`)
    if ('config' in result) io.stdout.write(toYaml(effectiveConfig(result.config)))
  }
  if ('config' in result) return 0
  return result.isUsage ? 2 : 1
}

async function load(flags: Options, io: Io): Promise<Loaded | ConfigError> {
  try {
    return await loadConfig(flags, io.env)
  } catch (error) {
    if (error instanceof ConfigError) return error
    throw error
  }
}

function toJson(result: Loaded | ConfigError, problems: readonly Problem[]): string {
  const ok = 'config' in result
  const config = ok ? toPlain(effectiveConfig(result.config)) : undefined
  return `${JSON.stringify({ ok, problems: problems.map(plainProblem), config }, null, 2)}\n`
}

function plainProblem({ severity, at, path, message }: Problem): unknown {
  const place = typeof at === 'string' ? { source: at } : at
  return { severity, ...place, path, message }
}
