#!/bin/bash
# Installs gVisor and registers it with Docker, so that tier 2 works here. Root, Debian or a kin of it.
#
# What: the newest `runsc` the machine's own package sources reach (backports before the release), the entry
# `runsc` in /etc/docker/daemon.json (everything else there stays), a live reload, and a smoke container whose
# kernel log must say gVisor. Nothing is pulled from a registry and Docker is not restarted.
# Idempotent: a second run only checks, and takes about a second.
#
#   setup.sh           install what lacks, then verify
#   setup.sh --check   verify only; exit 1 when tier 2 does not work
# `SYMBI_GUEST` may name our static guest binary, to be run in the smoke container; without it busybox serves, or a
# few lines of C.
set -euo pipefail

CONFIG=${SYMBI_DOCKER_CONFIG:-/etc/docker/daemon.json}
NAME=runsc
IMAGE=symbi/smoke:${SYMBI_GUEST:+guest-}1
WAIT_S=20 # a reload is done in well under a second; past this it has failed

say() { printf 'setup-sandbox: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

daemon_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# A container of one static file is the only proof: `docker info` goes on listing a runtime whose binary is gone.
smoke() {
  local output
  SMOKE_SAID=
  smoke_image
  output=$(timeout 60 docker run --rm --runtime="$NAME" --network none --read-only --cap-drop ALL --memory 128m \
    --pids-limit 256 --security-opt no-new-privileges --log-driver none "$IMAGE" /dmesg probe 2>&1) || true
  case "$output" in
  *gVisor* | *'"gvisor":true'*) return 0 ;;
  *) SMOKE_SAID=$(printf '%s' "$output" | tail -n 3 | cut -c -300); return 1 ;;
  esac
}

# One program that prints the kernel's log (busybox, ours in C) or reports what it sees (the guest).
smoke_image() {
  docker image inspect "$IMAGE" >/dev/null 2>&1 && return
  local work
  work=$(mktemp -d)
  if [ -n "${SYMBI_GUEST:-}" ]; then
    cp "$SYMBI_GUEST" "$work/dmesg"
  elif [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1; then
    cp /bin/busybox "$work/dmesg"
  elif command -v cc >/dev/null; then
    cat >"$work/dmesg.c" <<'C'
#include <stdio.h>
#include <sys/klog.h>
int main(void) {
    static char text[1 << 16];
    int size = klogctl(3, text, sizeof text);
    return size < 0 || fwrite(text, 1, (size_t)size, stdout) == 0;
}
C
    cc -static -O1 -o "$work/dmesg" "$work/dmesg.c"
    rm "$work/dmesg.c"
  else
    rm -rf "$work"
    die "the smoke container needs \`busybox-static\` or a C compiler here"
  fi
  chmod 755 "$work" "$work/dmesg"
  tar -C "$work" --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 -c . | docker import - "$IMAGE" >/dev/null
  rm -rf "$work"
}

install_runsc() {
  command -v apt-get >/dev/null || die "no apt-get here: install \`runsc\` by hand (https://gvisor.dev), then run this again"
  local codename mirror signed list=/etc/apt/sources.list.d/symbi-backports.list
  export DEBIAN_FRONTEND=noninteractive
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  # The mirror and the key are those this machine already uses for its release; no host is named here.
  mirror=$(awk -v suite="$codename" '
    /^URIs:/ { uri = $2 } /^Suites:/ { for (i = 2; i <= NF; i++) if ($i == suite) { print uri; exit } }
    /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z]+:\/\//) { uri = $i; if ($(i + 1) == suite) { print uri; exit } } }
  ' /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list 2>/dev/null || true)
  signed=$(sed -n 's/^Signed-By: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1 || true)
  if [ -n "$codename" ] && [ -n "$mirror" ]; then
    printf 'deb %s%s %s-backports main\n' "${signed:+[signed-by=$signed] }" "$mirror" "$codename" >"$list"
    if apt-get update -qq -o Dir::Etc::sourcelist="$list" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 &&
      apt-get install -y -qq --no-install-recommends -t "$codename-backports" runsc >/dev/null; then
      return 0
    fi
    say "backports do not have it: trying the release"
    rm -f "$list"
  fi
  apt-get install -y -qq --no-install-recommends runsc >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends runsc >/dev/null; } ||
    die "cannot install \`runsc\` from the package sources of this machine"
}

register() {
  local path platform flags
  path=$(command -v "$NAME") || die "\`$NAME\` is not on PATH after its installation"
  # Into a variable, not through `grep -q`: that closes the pipe early and pipefail would call it a failure.
  flags=$("$path" flags 2>&1 || true)
  case "$flags" in
  *systrap*) platform=systrap ;;
  *) platform=ptrace ;;
  esac
  mkdir -p "$(dirname "$CONFIG")"
  python3 - "$CONFIG" "$NAME" "$path" "$platform" <<'PY'
import json, os, pathlib, sys

file, name, path, platform = pathlib.Path(sys.argv[1]), *sys.argv[2:]
config = json.loads(file.read_text()) if file.exists() and file.read_text().strip() else {}
entry = {"path": path, "runtimeArgs": [f"--platform={platform}", "--network=none"]}
if config.get("runtimes", {}).get(name) != entry:
    config.setdefault("runtimes", {})[name] = entry
    fresh = file.with_suffix(".symbi-new")
    fresh.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(fresh, file)
PY
  local pid_file=/var/run/docker.pid pid
  pid=$(cat "$pid_file" 2>/dev/null || true)
  [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] ||
    die "\`$pid_file\` names no dockerd: reload Docker by hand (systemctl reload docker), then run this again"
  kill -HUP "$pid"
  local deadline=$((SECONDS + WAIT_S))
  until docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -F "\"$NAME\"" >/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || die "Docker does not list \`$NAME\` ${WAIT_S} s after its reload: see its log"
    sleep 0.2
  done
}

command -v docker >/dev/null || die "no \`docker\` here: apt-get install docker.io"
daemon_answers || die "no Docker daemon answers: start it (systemctl start docker), then run this again"

if smoke; then
  say "tier 2 works: $("$NAME" --version 2>/dev/null | head -n 1)"
  exit 0
fi
[ "${1:-}" != --check ] || die "tier 2 does not work: ${SMOKE_SAID:-no answer}; mend it with \`ci/setup-sandbox\`"
[ "$(id -u)" = 0 ] || die "needs root: sudo ci/setup-sandbox"
command -v "$NAME" >/dev/null || install_runsc
register
smoke || die "registered, and the smoke container failed: ${SMOKE_SAID:-no answer}"
say "tier 2 works: $("$NAME" --version 2>/dev/null | head -n 1)"
