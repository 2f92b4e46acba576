import { expect, test } from 'vitest'
import { helpText } from '../../src/cli/help.ts'
import { COMMANDS } from '../../src/cli/usage.ts'

test.each(['overview', ...Object.keys(COMMANDS)])(
  'the help text of %s is the golden one',
  async (name) => {
    await expect(helpText(name)).toMatchFileSnapshot(`../golden/help-${name}.txt`)
  },
)

test('no line is wider than a terminal of 110 columns', () => {
  for (const name of ['', ...Object.keys(COMMANDS)]) {
    for (const line of helpText(name).split('\n')) expect(line.length).toBeLessThanOrEqual(110)
  }
})
