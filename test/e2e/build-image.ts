// The Dockerfile built as it stands, by buildah, on stand-ins for its base images.
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import packageJson from '../../package.json' with { type: 'json' }
import { makeBaseImages } from './base-images.ts'
import type { Containers } from './containers.ts'
import { run } from './processes.ts'

const ROOT = fileURLToPath(import.meta.resolve('../..'))
const SYSTEM_AUTHORITIES = '/etc/ssl/certs/ca-certificates.crt'

/** What the build is told of itself: the image's labels. */
export const PROVENANCE = {
  VERSION: packageJson.version,
  REVISION: '0123456789abcdef0123456789abcdef01234567',
  SOURCE: 'https://git.example.com/chandlery',
}

/** Builds the image under the name. */
export async function buildImage(
  containers: Containers,
  name: string,
  directory: string,
): Promise<void> {
  await mkdir(directory, { recursive: true })
  const dockerfile = await readFile(`${ROOT}/Dockerfile`, 'utf8')
  await makeBaseImages(containers, dockerfile, directory)
  const context = await privateCopy(directory)
  const values = Object.entries(PROVENANCE).map(([key, value]) => `--build-arg=${key}=${value}`)
  const how = ['--isolation', 'chroot', '--pull-never', '--network', 'host', '--format', 'docker']
  const secrets = await npmSecrets(directory)
  const args = ['bud', '--quiet', ...how, ...secrets, ...values, '--tag', name, context]
  await containers.buildah(args, { env: proxies(), timeoutMs: 240_000 })
}

/** The clone of somebody whose files are for nobody else (umask 077). */
async function privateCopy(directory: string): Promise<string> {
  const context = `${directory}/context`
  await mkdir(context)
  const but = ['node_modules', '.git', '.cache'].map((name) => `--exclude=./${name}`)
  const copy = 'from=$1 to=$2; shift 2; tar -C "$from" "$@" --mode=go= -c . | tar -C "$to" -xp'
  await run('sh', ['-c', copy, 'sh', ROOT, context, ...but])
  return context
}

/** npm in the build reaches the registry as npm on this machine does. */
async function npmSecrets(directory: string): Promise<string[]> {
  const npmrc = `${directory}/npmrc`
  const ca = `${directory}/ca.pem`
  for (const name of ['globalconfig', 'userconfig']) {
    await appendFile(npmrc, `${await textOf(await setting(name))}\n`)
  }
  const registry = await setting('registry')
  await appendFile(npmrc, `registry=${registry}\ncafile=/run/secrets/ca\n`, { mode: 0o600 })
  const authorities = [SYSTEM_AUTHORITIES, process.env.NODE_EXTRA_CA_CERTS, await setting('cafile')]
  const texts = [...new Set(authorities)].map(async (file) => await textOf(file))
  await writeFile(ca, (await Promise.all(texts)).join('\n'))
  return [`--secret=id=npmrc,src=${npmrc}`, `--secret=id=ca,src=${ca}`]
}

async function setting(name: string): Promise<string> {
  return (await run('npm', ['config', 'get', name])).trim()
}

/** What is in the file; nothing where it is not there. */
async function textOf(file: string | undefined): Promise<string> {
  return file === undefined ? '' : await readFile(file, 'utf8').catch(() => '')
}

function proxies(): Record<string, string> {
  const all = Object.entries(process.env).filter(([name]) => /^(https?|no)_proxy$/i.test(name))
  return Object.fromEntries(all.map(([name, value]) => [name, value ?? '']))
}
