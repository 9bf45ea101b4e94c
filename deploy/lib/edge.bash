# Sourced by deploy/bench, deploy/interop and deploy/load. Gets the peers of the gateway's data path: proxies and tunnels from Debian
# and the Rust registry. Who compares names what cannot be had, and goes on without it.

# The release of Debian whose wireguard-go is the newest that Debian has.
newer_debian=trixie
boringtun_release=0.7.1

# What this machine builds and gets, and where it is to run.
prepare_edge() {
  need ip iproute2
  contracts/check install >&2
  nice -n 10 cargo build --locked --release -p gateway >&2
  peers=()
  proxies
  edge_peer --wireguard-go newest_wireguard_go
  edge_peer --boringtun-cli boringtun_cli
  edge_peer --ethtool debian_file ethtool sbin/ethtool
  # Networks, processes and what they leave in /run are the benchmark's own, and gone when it is; so is it when we are.
  runner=(setpriv --pdeathsig KILL -- unshare --net --mount --pid --fork --kill-child --mount-proc)
  [[ $(id -u) == 0 ]] || runner+=(--map-root-user)
  runner+=(-- sh -c 'mount -t tmpfs tmpfs /run && "$@"; exit' sh)
}

# The proxies, for `loadtest peers`, and where they run: gateways make interfaces for their tunnels, in a network that is there
# for this alone.
prepare_load_peers() {
  need ip iproute2
  peers=()
  proxies
  runner=(unshare --net)
  # Postgres does not run as root, so that nobody becomes root here.
  [[ $(id -u) == 0 ]] || runner=(unshare --user --map-current-user --keep-caps --net)
  runner+=(-- sh -c 'ip link set lo up && exec "$@"' sh)
}

proxies() {
  mkdir -p "$cache/edge/lib"
  peers+=(--libraries "$cache/edge/lib")
  edge_peer --haproxy debian_program haproxy usr/sbin/haproxy liblua5.3-0:liblua5.3.so.0 \
    libopentracing-c-wrapper0:libopentracing-c-wrapper.so.0 libopentracing1:libopentracing.so.1
  edge_peer --nginx debian_program nginx usr/sbin/nginx
  edge_peer --nginx-stream debian_file libnginx-mod-stream usr/lib/nginx/modules/ngx_stream_module.so
}

# edge_peer OPTION COMMAND...: tells the benchmark where a program is, which COMMAND prints.
edge_peer() {
  local option=$1 file
  shift
  if file=$("$@"); then
    peers+=("$option" "$file")
  else
    say "going on without ${option#--}"
  fi
}

# debian_program PACKAGE PATH LIBRARY-PACKAGE:LIBRARY...: prints where a program of a Debian package is. The libraries, which
# the machine may lack, are put where the benchmark looks for them.
debian_program() {
  local program library file
  program=$(debian_file "$1" "$2") || return
  shift 2
  for library; do
    file=$(debian_file "${library%:*}" "usr/lib/$(uname -m)-linux-gnu/${library#*:}") || return
    cp "$file" "$cache/edge/lib"
  done
  printf '%s\n' "$program"
}

# Prints where wireguard-go is: that of a newer Debian, or else of this one.
newest_wireguard_go() {
  newer_debian_file wireguard-go usr/bin/wireguard-go && return
  say "there is no wireguard-go from Debian $newer_debian: taking this Debian's"
  debian_file wireguard-go usr/bin/wireguard-go
}

# newer_debian_file PACKAGE PATH: like debian_file, from the newer Debian, and whether or not this one's is installed. apt's
# lists for it are kept apart, so that nothing else comes from there.
newer_debian_file() {
  local state=$cache/debian/$newer_debian unpacked=$cache/debian/$newer_debian/$1
  if [[ ! -e $unpacked/$2 ]]; then
    have apt-get && have dpkg-deb || return
    say "unpacking $1 of Debian $newer_debian into ${unpacked#"$root"/}"
    mkdir -p "$state/lists/partial" "$state/archives/partial" "$unpacked"
    : >"$state/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $newer_debian main" >"$state/sources.list"
    local apt=(apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null
      -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" -o Dir::Cache="$state")
    "${apt[@]}" update >&2 || return
    (cd "$unpacked" && "${apt[@]}" download "$1" >&2 && dpkg-deb -x ./*.deb . && rm ./*.deb) || return
    rm -rf "$state/lists" "$state"/*.bin
  fi
  [[ -e $unpacked/$2 ]] && printf '%s\n' "$unpacked/$2"
}

# Prints where this machine gets Debian from.
debian_mirror() {
  local mirror
  mirror=$(apt-get indextargets --format '$(SITE)' 'Label: Debian' 'Created-By: Packages' 2>/dev/null | head -n 1)
  printf '%s\n' "${mirror:-http://deb.debian.org/debian}"
}

# Prints where boringtun-cli is, which takes a minute to build.
boringtun_cli() {
  local folder=$cache/boringtun
  if [[ ! -x $folder/bin/boringtun-cli ]]; then
    say "building boringtun-cli $boringtun_release"
    nice -n 10 cargo install --quiet --locked --root "$folder" --target-dir "$folder/build" "boringtun-cli@$boringtun_release" >&2 &&
      rm -rf "$folder/build" || return
  fi
  printf '%s\n' "$folder/bin/boringtun-cli"
}
