// Started and killed by owner.test.ts. It owns the directory in its argument.

import { takeOwnership } from '../../../src/store/owner/owner.ts'

await takeOwnership(process.argv[2]!, { listen: '127.0.0.1:6000' }, { heartbeatMs: 20 })
process.stdout.write('owner\n')
setInterval(() => {}, 1000)
