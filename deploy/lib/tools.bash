# Sourced by deploy/test. Finds or installs what a step needs, and says in plain words what is missing.
#
# What is installed by hand goes below target/tools, so that it leaves with the build.

tools=target/tools

# Debian packages that the machine lacks are installed by root, and named for everybody else.
#   need_command psql postgresql-client
need_command() {
  local command=$1 package=$2
  command -v "$command" >/dev/null && return
  install_package "$package" "$command is missing"
}

# PostgreSQL's server. Debian keeps its programs off PATH, where tests look for them as well.
need_postgres() {
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need_command initdb postgresql
}

# The other edges that loadtest compares with.
need_edges() {
  need_command /usr/sbin/haproxy haproxy
  need_command /usr/sbin/nginx nginx
  [[ -e /usr/lib/nginx/modules/ngx_stream_module.so ]] || install_package libnginx-mod-stream "nginx's stream module is missing"
}

install_package() {
  local package=$1 why=$2
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "$why: install the package $package (Debian: apt-get install $package)" >&2
    return 1
  fi
  echo "$why: installing the package $package"
  local install=(apt-get install -y -qq --no-install-recommends "$package")
  export DEBIAN_FRONTEND=noninteractive
  "${install[@]}" </dev/null >/dev/null 2>&1 || { apt-get update -qq </dev/null && "${install[@]}" </dev/null >/dev/null; } || {
    echo "$package could not be installed; see above" >&2
    return 1
  }
}

# Makes `cargo NAME` work: as it is on PATH, from PyPI, or built by cargo.
#   need_cargo_tool nextest
need_cargo_tool() {
  local name=$1
  PATH=$PWD/$tools/venv/bin:$PWD/$tools/bin:$PATH
  cargo "$name" --version >/dev/null 2>&1 && return
  echo "cargo $name is missing: installing it below $tools"
  install_wheel "cargo-$name" || install_crate "cargo-$name"
}

install_wheel() {
  local wanted
  command -v python3 >/dev/null || return 1
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_package python3-venv "python3 cannot make environments" || return 1
  wanted=$(mktemp)
  sed -n "/^astral-dev-toolchain-$1==/,/[^\\\\]\$/p" deploy/lib/tools.txt >"$wanted"
  mkdir -p "$tools"
  python3 -m venv "$tools/venv" &&
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$wanted"
  local result=$?
  rm -f "$wanted"
  return $result
}

install_crate() {
  local release
  release=$(sed -n "s/^astral-dev-toolchain-$1==\([0-9.]*\).*/\1/p" deploy/lib/tools.txt)
  echo "PyPI has no $1 for this machine, or cannot be reached: building $1 $release, which takes minutes"
  # In its own target folder: the tool's build must not meet ours.
  CARGO_TARGET_DIR=$PWD/$tools/build cargo install --quiet --locked --root "$tools" "$1@$release" &&
    rm -rf "$tools/build"
}
