#!/usr/bin/env bash
# The Helm chart: lint, goldens, refused values, alerts. `npm run e2e:chart -- --update` writes the
# goldens anew. Needs Go (for helm, see helm.sh) and promtool (Debian: prometheus).
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v promtool >/dev/null || { echo 'e2e: there is no promtool: apt-get install prometheus' >&2; exit 1; }
HELM=$(bash test/e2e/helm.sh)
export HELM
exec timeout --kill-after=15 120 node test/e2e/chart/main.ts "$@"
