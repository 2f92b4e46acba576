// Run by helm test in the server's own image: checks that the server is ready and that the registry API
// answers. A server that has just been installed gets two minutes.
const checks = [process.env.ADMIN_URL, process.env.REGISTRY_URL]
const deadline = Date.now() + Number(process.env.PATIENCE_MS ?? 120_000)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const why = (error) => error.cause?.message ?? error.message

async function ask(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5000) })
    const text = await response.text()
    return response.ok ? undefined : `${response.status} ${text.trim()}`
  } catch (error) {
    return why(error)
  }
}

async function check(url) {
  for (;;) {
    const problem = await ask(url)
    if (problem === undefined) return void process.stdout.write(`ok      ${url}\n`)
    if (Date.now() > deadline) throw new Error(`${url}: ${problem}`)
    await sleep(1000)
  }
}

Promise.all(checks.map(check)).catch((error) => {
  process.stderr.write(`FAILED  ${error.message}\n`)
  process.exit(1)
})
