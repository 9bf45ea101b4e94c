# Sourced by the programs of deploy/. Makes `cargo` work in this repository, whatever Rust the machine has.
#
# rust-toolchain.toml pins one release. rustup follows it, but only if a toolchain of that very name is installed or can be
# downloaded; a machine whose `stable` is the same release, or that has no rustup at all, needs a word from us.

# Prints the value of a key in one of the files at the top of the repository.
pinned() {
  sed -n "s/^$2 *= *\"\(.*\)\".*/\1/p" "$1" | head -n 1
}

# Prints the release of a rustc, such as 1.95.0, or nothing.
rustc_release() {
  RUSTUP_AUTO_INSTALL=0 rustc "$@" --version 2>/dev/null | cut -d ' ' -f 2
}

at_least() {
  [[ $(printf '%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

# Must be called at the top of the repository. Exports RUSTUP_TOOLCHAIN when another toolchain has to stand in.
use_toolchain() {
  local wanted oldest found name best='' best_release=''
  wanted=$(pinned rust-toolchain.toml channel)
  oldest=$(pinned Cargo.toml rust-version)
  if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust $wanted (https://rustup.rs)" >&2
    return 1
  fi
  found=$(rustc_release || true)
  [[ $found == "$wanted" ]] && return

  if [[ -z $found ]] && command -v rustup >/dev/null; then
    while read -r name _; do
      found=$(rustc_release "+$name" || true)
      if [[ $found == "$wanted" ]]; then
        echo "using the toolchain $name, which is Rust $wanted"
        export RUSTUP_TOOLCHAIN=$name
        return
      fi
      if [[ $found =~ ^[0-9.]+$ ]] && at_least "$found" "${best_release:-$oldest}"; then
        best=$name best_release=$found
      fi
    done < <(rustup toolchain list)
    echo "installing Rust $wanted"
    rustup toolchain install "$wanted" --profile minimal --component clippy --component rustfmt </dev/null && return
    if [[ -n $best ]]; then
      echo "using the toolchain $best (Rust $best_release): Rust $wanted could not be installed; lints may differ" >&2
      export RUSTUP_TOOLCHAIN=$best
      return
    fi
  fi

  if [[ ! $found =~ ^[0-9.]+$ ]] || ! at_least "$found" "$oldest"; then
    echo "Rust $wanted is needed, and this is ${found:-none}: install it (https://rustup.rs)" >&2
    return 1
  fi
  echo "this is Rust $found, and $wanted is pinned: lints and formatting may differ" >&2
}
