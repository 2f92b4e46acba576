#!/usr/bin/env bash
# Builds helm into .cache/bin, unless it is there: from the Go module proxy, about 80 s on two cores
# the first time. Needs Go. Prints the path of the program.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=v4.3.1
helm=.cache/bin/helm-$version
mkdir -p .cache/bin
exec 9>.cache/helm.lock
flock 9  # one build at a time; whoever comes second finds it done

if [ ! -x "$helm" ]; then
  PATH="$PATH:/usr/local/go/bin"
  if ! command -v go >/dev/null; then
    echo "e2e: helm $version is built with Go, and there is no go in the PATH: install Go (https://go.dev/dl)" >&2
    exit 1
  fi
  echo "e2e: building helm $version with $(go version | cut -d' ' -f3)" >&2
  started=$SECONDS
  directory=$(mktemp -d)
  trap 'rm -rf "$directory"' EXIT
  # Not optimised: it runs for a second, and builds in two thirds of the time.
  GOBIN=$directory CGO_ENABLED=0 go install -gcflags=all='-N -l' -ldflags '-s -w' "helm.sh/helm/v4/cmd/helm@$version" \
    2>&1 | { grep -v '^go: downloading' >&2 || true; }
  mv "$directory/helm" "$helm"
  echo "e2e: built in $((SECONDS - started)) s" >&2
fi
echo "$PWD/$helm"
