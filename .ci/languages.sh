#!/usr/bin/env bash
# Sets up the languages of examples/: Python with the packages of examples/python, Go with the modules of examples/go.
# To be sourced: it exports OUTRIDER_TEST_PYTHON, GOTOOLCHAIN and, where Go had to be fetched, PATH.
# Quiet, and quick when all is there. What it cannot set up it names; the tests fail then.

# Says what a step wrote only if it failed.
languages_quietly() {
  local said
  said=$("$@" 2>&1) || { printf 'languages.sh: %s\n%s\n' "$*" "$said" | tail -n 20 >&2; return 1; }
}

# languages_install PACKAGE...: from Debian's packages, where that is possible.
languages_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  languages_quietly apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive languages_quietly apt-get install -y -qq --no-install-recommends "$@"
}

languages_python() {
  local wanted=examples/python/requirements.txt
  local venv
  venv="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/outrider-ci/python-$(cksum <$wanted | cut -d ' ' -f 1)"
  export OUTRIDER_TEST_PYTHON="$venv/bin/python"
  "$OUTRIDER_TEST_PYTHON" -c 'import grpc_tools' 2>/dev/null && return
  # Debian's Python comes without what makes a venv.
  python3 -c 'import ensurepip' 2>/dev/null || languages_install python3 python3-venv || true
  languages_quietly python3 -m venv --clear "$venv" &&
    languages_quietly "$OUTRIDER_TEST_PYTHON" -m pip install --quiet --disable-pip-version-check -r $wanted
}

languages_go() {
  local wanted=go1.26.0
  command -v go >/dev/null || languages_install golang-go || true
  # A Go that is too old fetches a newer one, and one before 1.21 must be told how.
  export GOTOOLCHAIN=auto
  case "$(go env GOVERSION 2>/dev/null)" in
  go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.20*)
    local toolchain
    toolchain="golang.org/toolchain@v0.0.1-$wanted.$(go env GOOS)-$(go env GOARCH)"
    languages_quietly go mod download "$toolchain"
    PATH="$(go env GOMODCACHE)/$toolchain/bin:$PATH"
    chmod -R u+x "$(go env GOMODCACHE)/$toolchain/bin" "$(go env GOMODCACHE)/$toolchain/pkg/tool" 2>/dev/null || true
    ;;
  esac
  languages_quietly go -C examples/go mod download
}

languages_python || echo "languages.sh: Python is not ready" >&2
languages_go || echo "languages.sh: Go is not ready" >&2
