// What helm install tells at its end: the address that the nodes are given, for each exposure.
import type { Report } from '../report.ts'
import type { Helm } from './helm.ts'

const TOLD: readonly [exposure: string, set: readonly string[], tells: readonly string[]][] = [
  ['an address of the cluster', [], ['http://CLUSTER_IP:5000', "jsonpath='{.spec.clusterIP}'"]],
  [
    'a chosen address of the cluster',
    ['service.clusterIP=10.96.0.50'],
    ['[host."http://10.96.0.50:5000"]'],
  ],
  [
    'an address with colons',
    [
      'service.clusterIP=fd00::10',
      'tls.certManager.enabled=true',
      'tls.certManager.issuerRef.name=a',
    ],
    ['[host."https://[fd00::10]:5000"]', 'has to name [fd00::10];', 'get secret chandlery-tls'],
  ],
  [
    'a node port',
    ['service.type=NodePort'],
    ['[host."http://127.0.0.1:30500"]', 'reaches port 30500 of a node', 'let only your nodes'],
  ],
  [
    'a node port that Kubernetes chooses',
    ['service.type=NodePort', 'service.nodePort=null'],
    ['127.0.0.1:NODE_PORT', 'nodePort}'],
  ],
  ['a host port', ['hostPort.enabled=true'], ['http://NODE_IP:5000', 'get pods']],
  [
    'a load balancer',
    ['service.type=LoadBalancer', 'tls.existingSecret=a'],
    ['https://LOAD_BALANCER_IP:5000', 'loadBalancer.ingress', 'ca = "'],
  ],
  ['a made token', ['admin.token.generate=true'], ['get secret chandlery-admin']],
  ['a volume that does not last', ['persistence.type=emptyDir'], ['lost with the pod']],
]

export async function checkNotes(report: Report, helm: Helm): Promise<void> {
  for (const [exposure, set, tells] of TOLD) {
    await report.check(`the notes fit ${exposure}`, async () => {
      const notes = await helm.notes(set.flatMap((each) => ['--set', each]))
      const missing = tells.filter((each) => !notes.includes(each))
      if (missing.length > 0) throw new Error(`${missing.join(', ')} is not in:\n${notes}`)
    })
  }
}
