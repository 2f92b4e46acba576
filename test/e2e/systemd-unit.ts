// docker/chandlery.service as systemd reads it: nothing wrong in it, and little that the server may do. It is
// not started: that would take a running systemd.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { tryRun } from './processes.ts'
import { print, type Report } from './report.ts'

const ROOT = fileURLToPath(import.meta.resolve('../..')).replace(/\/$/, '')
/** systemd's measure of what a service could do to its host, from 0 to 10; 1.1 when this was written. */
const MAX_EXPOSURE = 1.5

/** `systemd-analyze` verify and security. */
export async function checkSystemdUnit(report: Report, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  const unit = `${directory}/chandlery.service`
  const text = await readFile(`${ROOT}/docker/chandlery.service`, 'utf8')
  // verify wants the program to be there.
  await writeFile(unit, text.replaceAll('/opt/chandlery', ROOT))
  await report.check('systemd finds nothing wrong with its unit', async () => {
    const { code, stdout, stderr } = await tryRun('systemd-analyze', ['verify', unit])
    if (code !== 0 || stdout + stderr !== '') throw new Error(`${code}: ${stdout}${stderr}`)
  })
  await report.check('systemd finds little that the service may do', async () => {
    const limit = `--threshold=${MAX_EXPOSURE * 10}`
    const security = ['security', '--no-pager', '--offline=true', limit, unit]
    const { code, stdout, stderr } = await tryRun('systemd-analyze', security)
    const [sum] = /Overall exposure level.*?: [\d.]+ \w+/.exec(stdout) ?? []
    print(`        ${sum ?? 'no sum'}`)
    if (code !== 0 || sum === undefined) throw new Error(`${code}: ${stdout}${stderr}`)
  })
}
