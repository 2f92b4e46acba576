// skopeo as a client: copies an image into a directory, every file named by its digest.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { run, tryRun, type Finished } from './processes.ts'

/** Pulls into `directory` (emptied first) and resolves with the digests of all that is there. */
export async function skopeoPull(
  image: string,
  directory: string,
  all: boolean,
): Promise<Set<string>> {
  await rm(directory, { recursive: true, force: true })
  const options = ['--src-tls-verify=false', ...(all ? ['--all'] : [])]
  const copy = ['--insecure-policy', '--override-arch', 'amd64', 'copy', ...options]
  await run('skopeo', [...copy, `docker://${image}`, `dir:${directory}`])
  return await digestsIn(directory)
}

/** Tries to push what is in `directory`. */
export async function skopeoPush(directory: string, image: string): Promise<Finished> {
  const copy = ['--insecure-policy', 'copy', '--dest-tls-verify=false']
  return await tryRun('skopeo', [...copy, `dir:${directory}`, `docker://${image}`])
}

async function digestsIn(directory: string): Promise<Set<string>> {
  const digests = new Set<string>()
  for (const name of await readdir(directory)) {
    if (name === 'version') continue
    const hash = createHash('sha256')
    if (name.endsWith('.json')) hash.update(await readFile(`${directory}/${name}`))
    else await pipeline(createReadStream(`${directory}/${name}`), hash)
    const digest = hash.digest('hex')
    // manifest.json is named so; all others are named by what they have to be.
    if (!name.includes('manifest.json') && name !== digest)
      throw new Error(`${name} holds ${digest}`)
    digests.add(`sha256:${digest}`)
  }
  return digests
}
