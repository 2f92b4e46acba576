// What is in the image, and what is not.
import { readdir } from 'node:fs/promises'
import { PROVENANCE } from './build-image.ts'
import { runInImage } from './container.ts'
import type { Containers } from './containers.ts'
import { run } from './processes.ts'
import { print, type Report } from './report.ts'

const MAX_SIZE = 250_000_000
/** Programs that let somebody who got in look around. */
const TOOLS = /^(sh|bash|dash|busybox|apt|apt-get|dpkg|npm|npx|corepack|curl|wget|perl|python3?)$/

/** Size, labels, files and compiled modules. */
export async function checkImageContent(
  report: Report,
  containers: Containers,
  image: string,
): Promise<void> {
  await report.check(`the image is smaller than ${MAX_SIZE / 1e6} MB`, async () => {
    const size = Number(await containers.podman(['inspect', '--format', '{{.Size}}', image]))
    print(`        ${(size / 1e6).toFixed(0)} MB, uncompressed`)
    if (!(size < MAX_SIZE)) throw new Error(`it has ${size} bytes`)
  })
  await report.check('it says who made it of what, and runs as nobody', async () => {
    const config = JSON.parse(
      await containers.podman(['inspect', '--format', '{{json .Config}}', image]),
    )
    const label = (name: string) => config.Labels[`org.opencontainers.image.${name}`]
    const found = [label('version'), label('revision'), label('source')]
    if (found.join() !== Object.values(PROVENANCE).join()) throw new Error(found.join())
    if (label('licenses') !== 'Apache-2.0') throw new Error(`licenses: ${label('licenses')}`)
    if (config.User !== '65532:65532') throw new Error(`it runs as ${config.User}`)
  })
  await report.check(
    'it holds no shell and no tools, and nothing its user may change',
    async () => {
      const root = await containers.podman(['image', 'mount', image])
      try {
        await searchForTools(root)
      } finally {
        await containers.podman(['image', 'unmount', image])
      }
    },
  )
  await report.check('its modules are compiled already', async () => {
    const flags = ['--env=NODE_DEBUG_NATIVE=COMPILE_CACHE']
    const { stderr } = await runInImage(containers, image, ['--version'], flags)
    const lines = stderr.split('\n').filter((line) => line.includes('reading cache from'))
    const missed = lines.filter((line) => !line.includes('success'))
    if (lines.length < 500 || missed.length > 0)
      throw new Error(`${lines.length} modules, of them missed:\n${missed.join('\n')}`)
  })
}

async function searchForTools(root: string): Promise<void> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const found = entries.filter(({ name, parentPath }) => {
    return TOOLS.test(name) && /\/s?bin$/.test(parentPath)
  })
  if (found.length > 0) throw new Error(found.map(({ name }) => name).join(', '))
  // Everything in it belongs to root: what is left to see is what others may write.
  const writable = ['-xdev', '!', '-type', 'l', '(', '!', '-user', '0', '-o', '-perm', '/o=w', ')']
  const names = await run('find', [root, ...writable, '-printf', '%P\n'])
  const expected = ['tmp', 'var/lib/chandlery', 'var/lock', 'var/tmp']
  const others = names
    .trim()
    .split('\n')
    .filter((name) => !expected.includes(name))
  if (others.length > 0) throw new Error(`writable: ${others.join(', ')}`)
  const setuid = await run('find', [root, '-xdev', '-type', 'f', '-perm', '/ug=s'])
  if (setuid !== '') throw new Error(`setuid: ${setuid}`)
}
