// What only helm and promtool can tell of the chart. The objects themselves are looked at in
// test/chart/, as goldens; here it is seen that helm renders these. Started by chart.sh.
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import { Report } from '../report.ts'
import { checkAlerts } from './alerts.ts'
import { Helm } from './helm.ts'
import { checkNotes } from './notes.ts'
import { checkPulls } from './pulls.ts'
import { checkRandomValues } from './random.ts'
import { checkRefusals } from './refusals.ts'
import { checkRendering } from './rendering.ts'

const report = new Report()
const helm = new Helm(process.env['HELM'] ?? 'helm')
const directory = await temporaryDirectory('chandlery-chart')
try {
  await report.check('helm lint --strict finds nothing', () => helm.lint())
  await checkRendering(report, helm, process.argv.includes('--update'))
  await checkRandomValues(report, helm, directory.path)
  await checkRefusals(report, helm)
  await checkNotes(report, helm)
  if (process.getuid?.() === 0) await checkPulls(report, helm, directory.path)
  await checkAlerts(report, directory.path)
} finally {
  await directory.remove()
}
process.exitCode = report.finish() ? 0 : 1
