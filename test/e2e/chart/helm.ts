// The helm program on our chart. It asks no cluster.
import { type Finished, run, tryRun } from '../processes.ts'

const CHART = 'helm/chandlery'
const RELEASE = ['chandlery', CHART, '--namespace', 'registry']
/** A helm that was built without its release's settings takes the cluster for a very old one. */
const CLUSTER = ['--kube-version', '1.31.4-gke.100']

export class Helm {
  readonly #program: string

  constructor(program: string) {
    this.#program = program
  }

  async lint(): Promise<void> {
    await run(this.#program, ['lint', '--strict', CHART])
  }

  /** The objects as YAML. */
  async template(args: readonly string[]): Promise<string> {
    return await run(this.#program, ['template', ...RELEASE, ...CLUSTER, ...args])
  }

  /** The objects of a release of another name. */
  async templateAs(release: string, namespace: string, args: readonly string[]): Promise<string> {
    const named = ['template', release, CHART, '--namespace', namespace]
    return await run(this.#program, [...named, ...CLUSTER, ...args])
  }

  async tryTemplate(args: readonly string[]): Promise<Finished> {
    return await tryRun(this.#program, ['template', ...RELEASE, ...CLUSTER, ...args])
  }

  /** What helm install tells at its end. */
  async notes(args: readonly string[]): Promise<string> {
    const all = await run(this.#program, ['install', ...RELEASE, '--dry-run=client', ...args])
    return all.slice(all.indexOf('NOTES:'))
  }
}
