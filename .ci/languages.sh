#!/usr/bin/env bash
# Sets up the languages of examples/ and of test/api/dapr/sdks: Python, Go, Java, JavaScript, each with the packages that are
# pinned there. To be sourced: it exports OUTRIDER_TEST_PYTHON, GOTOOLCHAIN and, where Go had to be fetched, PATH.
# Quiet, and quick when all is there. What it cannot set up it names; the tests fail then.
#
#   OUTRIDER_TEST_TOOLS  where Dapr's SDKs are kept; ~/.cache/outrider-test-tools if unset

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

# languages_venv FOLDER REQUIREMENTS MODULES: an environment of Python's that can import the modules.
languages_venv() {
  "$1/bin/python" -c "import $3" 2>/dev/null && return
  # Debian's Python comes without what makes a venv.
  python3 -c 'import ensurepip' 2>/dev/null || languages_install python3 python3-venv || true
  languages_quietly python3 -m venv --clear "$1" &&
    languages_quietly "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2"
}

languages_python() {
  local wanted=examples/python/requirements.txt
  local venv
  venv="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/outrider-ci/python-$(cksum <$wanted | cut -d ' ' -f 1)"
  export OUTRIDER_TEST_PYTHON="$venv/bin/python"
  languages_venv "$venv" $wanted grpc_tools
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

# Dapr's SDKs: each in a folder that is named after what pins it, so that test/api/dapr/sdks/sdk-folder.ts finds it.
languages_sdk_folder() {
  local tools=${OUTRIDER_TEST_TOOLS:-${HOME:-/tmp}/.cache/outrider-test-tools}
  mkdir -p "$tools"
  echo "$tools/dapr-sdk-$1-$(sha256sum <"test/api/dapr/sdks/$1/$2" | cut -c 1-12)"
}

languages_sdk_python() {
  local folder
  folder=$(languages_sdk_folder python requirements.txt)
  languages_venv "$folder" test/api/dapr/sdks/python/requirements.txt 'dapr.ext.fastapi, dapr.ext.grpc, uvicorn'
}

# Compiled once, so that the tests do not wait for it.
languages_sdk_go() {
  languages_quietly go -C test/api/dapr/sdks/go build -o /dev/null .
}

# Whole or not at all: languages_whole FOLDER COMMAND..., where the command finds the new folder in $part.
languages_whole() {
  [ -d "$1" ] && return
  local part
  part=$(mktemp -d "$1-XXXXXX")
  if part=$part languages_quietly "${@:2}"; then
    mv -T "$part" "$1" 2>/dev/null || rm -rf "$part"
  else
    rm -rf "$part"
    return 1
  fi
}

languages_sdk_javascript() {
  local npm_folder=test/api/dapr/sdks/javascript
  languages_npm() {
    cp $npm_folder/package.json $npm_folder/package-lock.json "$part" &&
      npm ci --prefix "$part" --ignore-scripts --no-audit --no-fund
  }
  languages_whole "$(languages_sdk_folder javascript package-lock.json)" languages_npm
}

languages_sdk_java() {
  languages_maven() {
    mvn -q -B -f test/api/dapr/sdks/java/pom.xml dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$part"
  }
  languages_whole "$(languages_sdk_folder java pom.xml)" languages_maven
}

languages_java() {
  command -v javac >/dev/null || languages_install default-jdk-headless || true
  command -v mvn >/dev/null || languages_install maven
}

# What they wait for is mostly others: all at once.
languages_sdks() {
  local language jobs=()
  for language in python go javascript java; do
    "languages_sdk_$language" &
    jobs+=("$language=$!")
  done
  for language in "${jobs[@]}"; do
    wait "${language#*=}" || echo "languages.sh: Dapr's SDK for ${language%=*} is not ready" >&2
  done
}

languages_python || echo "languages.sh: Python is not ready" >&2
languages_go || echo "languages.sh: Go is not ready" >&2
languages_java || echo "languages.sh: Java is not ready" >&2
languages_sdks
