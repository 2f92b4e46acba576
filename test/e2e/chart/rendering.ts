// Every case of test/chart/values renders as its golden says; --update writes the goldens.
import { readFile, writeFile } from 'node:fs/promises'
import { CASES, DASHBOARD_MARK } from '../../chart/rendered.ts'
import type { Report } from '../report.ts'
import type { Helm } from './helm.ts'

export async function checkRendering(report: Report, helm: Helm, update: boolean): Promise<void> {
  const dashboard = await readFile('helm/chandlery/dashboards/chandlery.json', 'utf8')
  for (const name of CASES) {
    await report.check(`the case ${name} renders as its golden says`, async () => {
      const text = await helm.template(['--values', `test/chart/values/${name}.yaml`])
      const rendered = settled(text, dashboard)
      const golden = `test/golden/helm/${name}.yaml`
      if (update) await writeFile(golden, rendered)
      else compare(await readFile(golden, 'utf8'), rendered)
    })
  }
}

/** Without what is random, and without the dashboard where it is whole. */
function settled(rendered: string, dashboard: string): string {
  const indented = dashboard.trimEnd().replaceAll(/^(?=.)/gm, '    ')
  const text = rendered
    .replace(indented, `    ${DASHBOARD_MARK}`)
    .replace(/^( {2}token: )"[A-Za-z0-9+/]{64}"$/m, '$1"cmFuZG9t"')
    .replaceAll(/[ \t]+$/gm, '')
    .replaceAll(/\n+(?=---\n)/g, '\n') // Helm 3 has no empty line there
  return `${text.trimEnd()}\n`
}

function compare(golden: string, rendered: string): void {
  if (golden === rendered) return
  const [was, is] = [golden.split('\n'), rendered.split('\n')]
  const different = is.findIndex((each, i) => each !== was[i])
  const line = different < 0 ? is.length : different
  const around = (lines: string[]) => lines.slice(Math.max(0, line - 3), line + 6).join('\n')
  const cure = 'if it is meant: npm run e2e:chart -- --update'
  throw new Error(
    `line ${line + 1} differs; ${cure}\n--- golden\n${around(was)}\n+++ rendered\n${around(is)}`,
  )
}
