// Checks the content of the files that a configuration names with the code that will use it, so that
// neither a start nor a reload succeeds with a file that fails later.
import { createSecureContext } from 'node:tls'
import { parseDockerConfig } from '../upstream/credentials/docker-config.ts'
import { checkCertificates } from '../files/pem.ts'
import { readWhole } from '../files/read-file.ts'
import { TlsFileError, TlsFiles } from '../upstream/network/tls.ts'
import type { Config } from './config.ts'
import type { Environment } from './env.ts'
import type { KeyPath } from './problem.ts'
import type { Secret } from './secret.ts'

export interface Finding {
  readonly path: KeyPath
  /** Never holds content of the file. */
  readonly message: string
}

type Check = () => Promise<unknown>

/** Returns a finding for each file and secret that exists but cannot be used. */
export async function wrongContents(config: Config, env: Environment): Promise<Finding[]> {
  const findings: Finding[] = []
  // One after the other, so that a running server can answer requests in between: OpenSSL is slow.
  for (const [path, check] of checksOf(config, env)) findings.push(...(await found(path, check)))
  return findings
}

async function found(path: KeyPath, check: Check): Promise<Finding[]> {
  try {
    await check()
    return []
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    const key = error instanceof TlsFileError ? error.key : undefined
    return [{ path: key === undefined ? path : [...path, key], message }]
  }
}

function checksOf(
  { tls, admin, dockerConfig, configs }: Config,
  env: Environment,
): [KeyPath, Check][] {
  const checks: [KeyPath, Check][] = []
  if (tls) checks.push([['tls'], () => checkKeyPair(tls)])
  const { token } = admin
  if (token) checks.push([['admin', 'token'], () => checkToken(token, env)])
  for (const [index, file] of dockerConfig.entries()) {
    const path = dockerConfig.length === 1 ? ['dockerConfig'] : ['dockerConfig', index]
    checks.push([path, () => checkDockerConfig(file)])
  }
  for (const [host, { auth = [], tls: clientTls }] of Object.entries(configs)) {
    if (clientTls) checks.push([['configs', host, 'tls'], () => new TlsFiles(clientTls).current()])
    for (const [index, each] of auth.entries()) {
      const at = auth.length === 1 ? [] : [index]
      for (const key of ['password', 'auth', 'identity_token'] as const) {
        const secret = each[key]
        const path = ['configs', host, 'auth', ...at, key]
        if (isFile(secret)) checks.push([path, () => secret.read()])
      }
    }
  }
  return checks
}

/** Reports whether the secret is in a file. Variables are checked elsewhere, by name. */
function isFile(secret: Secret | undefined): secret is Secret {
  return secret !== undefined && secret.source !== '<redacted>' && 'file' in secret.source
}

async function checkKeyPair({ certFile, keyFile }: NonNullable<Config['tls']>): Promise<void> {
  const [cert, key] = await Promise.all([readWhole(certFile), readWhole(keyFile)])
  try {
    createSecureContext({ cert: checkCertificates(cert), key })
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Error(`${certFile} with the key ${keyFile}: ${why}`, { cause: error })
  }
}

async function checkToken(token: Secret, env: Environment): Promise<void> {
  if (!/^\S+$/.test(await token.read({ env }))) {
    throw new Error(
      `${token.toString()}: is empty or contains white space; write a token of one word`,
    )
  }
}

async function checkDockerConfig(file: string): Promise<void> {
  try {
    parseDockerConfig((await readWhole(file)).toString())
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    })
  }
}
