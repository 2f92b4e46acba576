#!/usr/bin/env bash
# Real clients against a real registry, through Chandlery, then its packages. Needs Debian 12, root and
# npm's PATH (`npm run e2e`, or `npm run e2e -- packaging` for one part); installs the Debian packages
# it lacks. Everything runs on loopback; the image's build reaches npm's registry, helm's the Go proxy.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(
  docker-registry  # the upstream: distribution 2.8
  skopeo podman containerd runc  # the clients
  golang-github-containers-common  # podman's and skopeo's own defaults
  prometheus  # and promtool
  tinyproxy-bin dante-server  # egress proxies: HTTP and SOCKS
  openssl  # certificates of the token server
  ca-certificates
  buildah  # builds the image
  systemd  # for systemd-analyze
)

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=()
for package in "${packages[@]}"; do
  if installed "$package"; then echo "e2e: $package is there"; else missing+=("$package"); fi
done
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "e2e: not root, and these packages are missing: ${missing[*]}" >&2
    exit 1
  fi
  echo "e2e: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  apt-get -q update
  apt-get -q install -y --no-install-recommends "${missing[@]}" >/dev/null
fi
[ "$(id -u)" = 0 ] || { echo 'e2e: containerd needs root' >&2; exit 1; }

# sbin: Debian keeps runc there, and cron-like environments leave it out.
export PATH="$PATH:/usr/sbin:/sbin"

# All files of this run. Processes and mounts are in namespaces of their own: whatever way a part ends,
# they end with it, and then nothing keeps its files.
TMPDIR=$(mktemp -d -t e2e.XXXXXX)
export TMPDIR
finish() {
  [ -z "${helm:-}" ] || kill -- "-$helm" 2>/dev/null || true
  [ -z "${running:-}" ] || { kill "$running" 2>/dev/null && wait "$running"; } || true
  rm -rf "$TMPDIR"
}
trap finish EXIT

parts=("$@")
[ "$#" -gt 0 ] || parts=(main packaging chart)
case " ${parts[*]} " in
  *' chart '*)
    # helm takes a while to build the first time: it is done beside the other parts, which mostly wait.
    setsid nice -n 19 bash test/e2e/helm.sh >/dev/null &
    helm=$!
    ;;
esac
for part in "${parts[@]}"; do
  if [ "$part" = chart ]; then bash test/e2e/chart.sh; continue; fi
  # timeout passes the signal on, so that the driver stops what it started. Not in the foreground: the
  # shell would wait for its end with a signal of its own.
  timeout --kill-after=15 350 \
    unshare --mount --pid --mount-proc --kill-child node "test/e2e/$part.ts" &
  running=$!
  wait "$running"
  running=
done
