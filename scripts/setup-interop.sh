#!/bin/sh
# Installs what `make clients` and `make interop` need beyond `make setup`: Java (the client generator's), Python with venv,
# Node with npm, libcoap's programs; and into .tools/interop their packages, in the versions that tests/interop names. Quick
# where all is there. aiocoap's DTLS is built from source; where that cannot be done, it is said, and the rest goes on.
set -eu

interop=tests/interop
tools=.tools/interop

say() { printf 'setup-interop: %s\n' "$*"; }
fail() { printf 'setup-interop: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo. Run as root: $*"
    fi
}

has_node() { command -v npm >/dev/null && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ]; }
has_python() { command -v python3 >/dev/null && python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
# Debian has them with and without TLS, others by their plain names.
has_libcoap() { command -v coap-client-notls >/dev/null || command -v coap-client >/dev/null; }
# What DTLSSocket is built with.
has_build_tools() {
    for tool in cc make autoconf automake; do command -v $tool >/dev/null || return 1; done
    command -v libtoolize >/dev/null || command -v glibtoolize >/dev/null || return 1
    "$tools/venv/bin/python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))'
}
has_java() { command -v java >/dev/null && java -version >/dev/null 2>&1; }

missing=
has_java || missing="$missing java"
has_python || missing="$missing python"
has_node || missing="$missing node"
has_libcoap || missing="$missing libcoap"
if [ -n "$missing" ]; then
    say "missing:$missing"
    if command -v apt-get >/dev/null; then
        packages=
        case $missing in *java*) packages="$packages default-jre-headless" ;; esac
        case $missing in *python*) packages="$packages python3 python3-venv" ;; esac
        case $missing in *node*) packages="$packages nodejs npm" ;; esac
        case $missing in *libcoap*) packages="$packages libcoap3-bin" ;; esac
        as_root apt-get update -q
        # shellcheck disable=SC2086 # several packages
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages
    elif command -v brew >/dev/null; then
        case $missing in *java*) brew install openjdk ;; esac
        case $missing in *python*) brew install python ;; esac
        case $missing in *node*) brew install node ;; esac
        case $missing in *libcoap*) brew install libcoap ;; esac
    else
        fail "neither apt-get nor Homebrew is here. Install by hand:$missing"
    fi
    has_java || fail "there is no working java"
    has_python || fail "Python 3.10 or newer with ensurepip is needed"
    has_libcoap || fail "libcoap's programs (coap-client, coap-server) are needed"
    has_node || fail "Node 18 or newer with npm is needed"
fi

# A copy of the lists beside the packages tells what is installed.
mkdir -p "$tools"
if ! cmp -s "$interop/requirements.txt" "$tools/requirements.txt"; then
    say "Python packages"
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$interop/requirements.txt"
    cp "$interop/requirements.txt" "$tools/requirements.txt"
fi
if ! cmp -s "$interop/requirements-dtls.txt" "$tools/requirements-dtls.txt"; then
    if ! has_build_tools && command -v apt-get >/dev/null; then
        as_root apt-get update -q &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
                gcc libc6-dev make autoconf automake libtool python3-dev || true
    elif ! has_build_tools && command -v brew >/dev/null; then
        brew install autoconf automake libtool || true
    fi
    if ! has_build_tools; then
        say "aiocoap is not tried with DTLS: its DTLSSocket is built from source, which needs cc, make, autoconf, automake,\
 libtoolize and Python's headers. Install them and run this again"
    elif "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$interop/requirements-dtls.txt" \
        >"$tools/dtls.log" 2>&1; then
        cp "$interop/requirements-dtls.txt" "$tools/requirements-dtls.txt"
    else
        say "aiocoap is not tried with DTLS: DTLSSocket could not be built; see $tools/dtls.log"
    fi
fi
if ! cat "$interop/package.json" "$interop/package-lock.json" | cmp -s - "$tools/installed-npm"; then
    say "npm packages"
    cp "$interop/package.json" "$interop/package-lock.json" "$interop/.npmrc" "$tools/"
    (cd "$tools" && npm ci --silent)
    cat "$interop/package.json" "$interop/package-lock.json" > "$tools/installed-npm"
fi
