// Values that cannot be meant are refused before anything is made, with what to do about it.
import type { Report } from '../report.ts'
import type { Helm } from './helm.ts'

const REFUSED: readonly [wrong: string, set: readonly string[], says: RegExp][] = [
  [
    'a misspelt key of the configuration',
    ['config.freshness.tll=1m'],
    /'\/config\/freshness'.*'tll' not allowed/,
  ],
  [
    'a wrong type in the configuration',
    ['config.fetch.connections=many'],
    /'\/config\/fetch\/connections': got string, want integer/,
  ],
  [
    'a duration without a unit',
    ['config.freshness.ttl=5'],
    /'\/config\/freshness\/ttl': got number, want string/,
  ],
  [
    'a level that does not exist',
    ['config.log.level=loud'],
    /'\/config\/log\/level': value must be one of/,
  ],
  ['a misspelt value', ['replicas=2'], /additional properties 'replicas' not allowed/],
  [
    'a type of persistence that does not exist',
    ['persistence.type=pvc'],
    /'\/persistence\/type': value must be one of 'volumeClaimTemplate'/,
  ],
  [
    'a port that does not exist',
    ['service.port=70000'],
    /'\/service\/port': maximum: got 70,?000, want 65,?535/,
  ],
  ['a size that is none', ['persistence.size=much'], /'\/persistence\/size'/],
  ['a digest that is none', ['image.digest=latest'], /'\/image\/digest'/],
  [
    'two servers on one claim',
    ['replicaCount=2', 'persistence.type=existingClaim', 'persistence.existingClaim=a'],
    /a directory belongs to one server/,
  ],
  ['a claim without its type', ['persistence.existingClaim=a'], /write type: existingClaim/],
  ['an existing claim without a name', ['persistence.type=existingClaim'], /name the claim/],
  ['a hostPath without a path', ['persistence.type=hostPath'], /name the directory/],
  [
    'rewrite rules whose order would be lost',
    ['config.mirrors.a\\.b.rewrite.x=y', 'config.mirrors.a\\.b.rewrite.y=z'],
    /config\.mirrors\."a\.b"\.rewrite .*write a list/,
  ],
  [
    'an admin port that probes cannot reach',
    ['config.admin.listen=127.0.0.1:5001'],
    /kubelet's probes/,
  ],
  [
    'a directory that is no mount path',
    ['config.storage.directory=./data'],
    /write an absolute path/,
  ],
  [
    'two sources of the certificate',
    ['tls.existingSecret=a', 'config.tls.certFile=/a', 'config.tls.keyFile=/b'],
    /both config\.tls and/,
  ],
  ['cert-manager without an issuer', ['tls.certManager.enabled=true'], /name the issuer/],
  ['a bundle that is nowhere', ['caBundles[0].name=a'], /needs either configMap or secret/],
  [
    'a probe of another kind',
    ['probes.liveness.exec.command={a}'],
    /properties 'exec' not allowed/,
  ],
  ['no size at all', ['persistence.size='], /'\/persistence\/size'/],
  ['an address that only the pod reaches', ['config.listen=127.0.0.1:5000'], /Services connect to/],
  ['one name twice', ['credentials.secrets={a,b,a}'], /secrets: a name is listed twice/],
  [
    'a variable that the chart sets',
    ['extraEnv[0].name=CHANDLERY_LISTEN', 'extraEnv[0].value=:80'],
    /CHANDLERY_LISTEN.*write it in config/,
  ],
  ['two K3s files', ['registries=a', 'registriesSecret.name=b'], /keep one/],
]

export async function checkRefusals(report: Report, helm: Helm): Promise<void> {
  for (const [wrong, set, says] of REFUSED) {
    await report.check(`${wrong} is refused, and it is said why`, async () => {
      const { code, stderr } = await helm.tryTemplate(set.flatMap((each) => ['--set', each]))
      if (code === 0) throw new Error('it was rendered')
      if (!says.test(stderr)) throw new Error(`says otherwise:\n${stderr}`)
    })
  }
}
