#!/usr/bin/env bash
# containerd 2.1, which fetches one layer over several connections, pulls through Chandlery
# (`npm run e2e:containerd2`). Debian 12 has no containerd 2: this one comes from a chroot with a later
# Debian, made from the mirror that the machine's own apt uses (0.4 GB, half a minute), and kept for the
# next time in CHANDLERY_E2E_CHROOT, by default in the system's temporary directory. By hand, not in CI.
# Needs Debian, root and npm's PATH; everything but the making of the chroot is on loopback.
set -euo pipefail
cd "$(dirname "$0")/../.."

suite=${CHANDLERY_E2E_SUITE:-forky}  # the first with containerd 2.1 or later
root=${CHANDLERY_E2E_CHROOT:-${TMPDIR:-/tmp}/chandlery-e2e-$suite}

[ "$(id -u)" = 0 ] || { echo 'e2e: a chroot needs root' >&2; exit 1; }
export PATH="$PATH:/usr/sbin:/sbin"

# The archive that the installed release itself comes from.
mirror() {
  apt-get indextargets --format '$(ORIGIN)/$(LABEL)/$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    awk -v wanted="Debian/Debian/$(. /etc/os-release && echo "$VERSION_CODENAME")" \
      '$1 == wanted { print $2; exit }'
}

make_chroot() {
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  if ! command -v debootstrap >/dev/null || [ -z "$(mirror)" ]; then
    apt-get -q update
    apt-get -q install -y --no-install-recommends debootstrap debian-archive-keyring >/dev/null
  fi
  echo "e2e: making a chroot of $suite in $root"
  local half="$root.half" from
  from=$(mirror)
  [ -n "$from" ] || { echo 'e2e: the apt sources name no Debian archive' >&2; return 1; }
  rm -rf --one-file-system "$half"
  # Mounts of its own, so that none is left behind. Older debootstraps do not know newer suites by name.
  unshare --mount debootstrap --variant=minbase --include=containerd,runc \
    "$suite" "$half" "$from" /usr/share/debootstrap/scripts/sid >"$root.log" 2>&1 ||
    { tail -n 25 "$root.log" >&2; return 1; }
  rm -rf "$half"/var/cache/apt/archives/*.deb
  mv "$half" "$root"
}

if [ -x "$root/usr/bin/containerd" ]; then echo "e2e: the chroot is there: $root"; else make_chroot; fi
# timeout passes the signal on, so that the driver stops what it started.
exec timeout --kill-after=15 180 node test/e2e/containerd2.ts "$root"
