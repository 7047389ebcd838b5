#!/bin/sh
# Installs what building and running Rollcall needs beyond a Rust toolchain: Postgres's programs (15 or newer), a C
# compiler, curl. Does nothing, quickly, where all of it is there.
set -eu

oldest=15

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Prints the folder of a new enough initdb, where `rollcall` would find it too.
find_postgres() {
    for initdb in $(command -v initdb || true) /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
        /opt/homebrew/opt/postgresql@*/bin/initdb /usr/local/opt/postgresql@*/bin/initdb \
        /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin/initdb; do
        [ -x "$initdb" ] && [ -x "${initdb%initdb}postgres" ] || continue
        major=$("$initdb" --version | sed 's/.*(PostgreSQL) \([0-9]*\).*/\1/')
        [ "$major" -ge "$oldest" ] && { dirname "$initdb"; return; }
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo. Run as root: $*"
    fi
}

apt_install() {
    say "apt-get install $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# Debian's packages would also make a server of their own that starts with the machine. Nobody asked for that here.
apt_install_postgres() {
    apt_install postgresql-common
    conf=/etc/postgresql-common/createcluster.conf
    [ ! -f $conf ] || as_root sed -i.rollcall -E 's/^#?create_main_cluster *=.*/create_main_cluster = false/' $conf
    apt_install postgresql
    [ ! -f $conf.rollcall ] || as_root mv $conf.rollcall $conf
}

missing=
[ -n "$(find_postgres)" ] || missing="$missing postgres"
command -v cc >/dev/null || missing="$missing cc"
command -v curl >/dev/null || missing="$missing curl"
if [ -z "$missing" ]; then
    exit 0
fi
say "missing:$missing"

if command -v apt-get >/dev/null; then
    as_root apt-get update -q
    case $missing in *cc*) apt_install gcc libc6-dev ;; esac
    case $missing in *curl*) apt_install curl ca-certificates ;; esac
    case $missing in *postgres*) apt_install_postgres ;; esac
elif command -v brew >/dev/null; then
    case $missing in *cc*) fail "install the C compiler with: xcode-select --install" ;; esac
    case $missing in *curl*) brew install curl ;; esac
    case $missing in *postgres*) brew install postgresql@17 ;; esac
else
    fail "neither apt-get nor Homebrew is here. Install by hand:$missing (Postgres $oldest or newer, with initdb)"
fi

[ -n "$(find_postgres)" ] || fail "the system's packages offer only a Postgres older than $oldest. Install a newer one by \
hand (https://www.postgresql.org/download/), or use a running one: rollcall up --database-url ..."
say "done"
