// Stand-ins for the Dockerfile's base images, under their names, for machines that reach no registry:
// Debian packages laid out as those images have them.
import { cp, mkdir, readdir, realpath, symlink, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Containers } from './containers.ts'
import { run, tryRun } from './processes.ts'

/** What distroless "cc" consists of. */
const DISTROLESS = [
  'base-files netbase media-types tzdata ca-certificates gcc-12-base',
  'libc6 libgcc-s1 libstdc++6 libgomp1 libssl3 libzstd1',
].flatMap((names) => names.split(' '))
/** What RUN needs besides, and Node. */
const SHELL = [
  'dash coreutils grep libatomic1',
  'libacl1 libattr1 libselinux1 libpcre2-8-0 libgmp10',
].flatMap((names) => names.split(' '))
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const USERS = `root:x:0:0:root:/root:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
`

/** Makes both. */
export async function makeBaseImages(
  containers: Containers,
  dockerfile: string,
  directory: string,
): Promise<void> {
  const npm = dirname(dirname(await realpath((await run('which', ['npm'])).trim())))
  const packages = `${directory}/packages`
  await download(packages)
  await layOut(`${directory}/bare`, packages, DISTROLESS)
  await layOut(`${directory}/node`, packages, [...DISTROLESS, ...SHELL])
  await addNode(`${directory}/node`, npm)
  await commit(containers, baseOf(dockerfile, 'BASE_IMAGE'), `${directory}/bare`)
  await commit(containers, baseOf(dockerfile, 'NODE_IMAGE'), `${directory}/node`)
}

function baseOf(dockerfile: string, argument: string): string {
  const [, name] = new RegExp(String.raw`^ARG ${argument}=(\S+)$`, 'm').exec(dockerfile) ?? []
  if (name === undefined) throw new Error(`the Dockerfile has no ARG ${argument}=…`)
  return name
}

async function download(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  const get = ['-c', 'cd "$1" && shift && apt-get -q download "$@"', 'sh', directory]
  const packages = [...DISTROLESS, ...SHELL]
  const { code } = await tryRun('sh', [...get, ...packages])
  if (code === 0) return
  // The lists of packages may be of another day.
  await run('apt-get', ['-q', 'update'], { timeoutMs: 120_000 })
  await run('sh', [...get, ...packages], { timeoutMs: 120_000 })
}

// As the images have it: everything below /usr, and no maintainer script has run.
async function layOut(root: string, packages: string, names: readonly string[]): Promise<void> {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    await mkdir(`${root}/usr/${name}`, { recursive: true })
    await symlink(`usr/${name}`, `${root}/${name}`)
  }
  const files = await readdir(packages)
  for (const name of names) {
    const file = files.find((entry) => entry.startsWith(`${name}_`))
    if (file === undefined) throw new Error(`no package ${name} among ${files.join(' ')}`)
    const unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"'
    await run('sh', ['-c', unpack, 'sh', `${packages}/${file}`, root])
  }
  const authorities = 'cat "$1"/usr/share/ca-certificates/mozilla/*.crt > "$1/etc/ssl/certs/$2"'
  await run('sh', ['-c', authorities, 'sh', root, 'ca-certificates.crt'])
  await writeFile(`${root}/etc/passwd`, USERS)
}

async function addNode(root: string, npm: string): Promise<void> {
  const local = `${root}/usr/local`
  await cp(process.execPath, `${local}/bin/node`)
  await cp(npm, `${local}/lib/node_modules/npm`, { recursive: true })
  await symlink('../lib/node_modules/npm/bin/npm-cli.js', `${local}/bin/npm`)
}

async function commit(containers: Containers, name: string, root: string): Promise<void> {
  const container = await containers.buildah(['from', 'scratch'])
  try {
    await containers.buildah(['add', '--quiet', container, root, '/'])
    await containers.buildah(['config', '--env', `PATH=${PATH}`, container])
    await containers.buildah(['commit', '--quiet', container, name])
  } finally {
    await containers.buildah(['rm', container])
  }
}
