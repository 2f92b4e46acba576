import { defineConfig } from 'vitest/config'

const NOT_TESTS = ['test/e2e/**', 'test/bench/**', 'node_modules/**']
// These patch the file functions of Node (test/support/failing-files.ts) and each run in a process of
// their own: a test that timed out before it undid its patch would fail every file after it.
const PATCH_NODE = [
  'test/broken-disk.test.ts',
  'test/damage.test.ts',
  'test/files/file-watch.test.ts',
  'test/shutdown.test.ts',
  'test/start-and-stop.test.ts',
  'test/store/ingest/partials.test.ts',
  'test/store/owner/owner.test.ts',
  'test/store/store.test.ts',
]

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    // For what hangs: tests of a file that run side by side share its time.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // What comes about comes at once on a machine that is not busy.
    expect: { poll: { timeout: 10_000 } },
    projects: [
      {
        extends: true,
        test: {
          name: 'shared',
          include: ['test/**/*.test.ts'],
          exclude: [...NOT_TESTS, ...PATCH_NODE],
          // A process serves many files: starting one for each took a sixth of the whole run.
          isolate: false,
        },
      },
      { extends: true, test: { name: 'alone', include: PATCH_NODE } },
    ],
  },
})
