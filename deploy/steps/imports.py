#!/usr/bin/env python3
"""Checks the rules of the house that no compiler knows. Prints every breach, and exits with 1 if there is one.

Who depends on whom is read from `cargo metadata` and `cargo tree`; the rest from the files that git knows.
"""

import json
import os
import re
import subprocess
import sys

# The programs. They are started, never imported.
PROGRAMS = {"gateway", "loadtest", "sidecar", "registrar"}

# The programs that stand between a client and its database, and the one that governs them. The others are for trials.
RELEASED = {"gateway", "sidecar", "registrar"}

# Pure crates decide from their arguments: no socket, no runtime, no clock, no randomness of their own.
PURE = {
    "postern-allowlist", "postern-attest", "postern-gateway-core", "postern-identity", "postern-packets", "postern-pgwire",
}  # fmt: skip

# What a pure crate may not name in its own manifest.
IMPURE = {
    "async-io", "async-std", "axum", "chrono", "getrandom", "hyper", "hyper-util", "libc", "mio", "nix", "quanta", "rand",
    "reqwest", "rustix", "smol", "socket2", "tokio", "tokio-rustls", "tokio-util",
    "postern-attest-io", "postern-plumbing", "postern-simulator", "postern-watch", "postern-wireguard", "postern-world",
}  # fmt: skip

# What may not be anywhere below a pure crate.
IMPURE_BELOW = {"async-io", "async-std", "hyper", "mio", "polling", "reqwest", "smol", "socket2", "tokio"}

# The TEE that does not exist is for tests, for the cluster of deploy/world, for load tests and for benchmarks; none of them
# is released.
SIMULATOR = "postern-simulator"
MAY_SIMULATE = {"loadtest", "postern-measure", "postern-simulator", "postern-world"}

# Crates with their only users.
ONLY_BELOW = {"ring": {"boringtun"}}

UNSAFE_ALLOWED = ("gateway/plumbing/", "gateway/wireguard/")

# Where it is decided who is admitted, and who puts the question to the chain.
VERDICT = "contracts/allowlist/"
ASKS = ("contracts/watch/", "contracts/registrar/")

MAX_LINES = 700
COUNTED = (".rs", ".sol", ".py", ".bash", ".js", ".mjs")

COMMENT_OR_TEXT = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | r(?P<hashes>\#*)".*?"(?P=hashes) | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])'""", re.S | re.X
)


def dependencies(packages):
    """Each package's name, the name of a dependency, and its kind: normal, build or dev."""
    for package in packages:
        for dependency in package["dependencies"]:
            yield package["name"], dependency["name"], dependency["kind"] or "normal"


def check_programs(packages):
    for name, dependency, kind in dependencies(packages):
        if dependency in PROGRAMS:
            yield f"{name}: has the program {dependency} among its {kind} dependencies; programs are started, not imported"


def check_pure(packages, tree_below):
    for name, dependency, kind in dependencies(packages):
        if name in PURE and kind == "normal" and dependency in IMPURE:
            yield f"{name}: is pure, and depends on {dependency}"
    for name in sorted(PURE & {package["name"] for package in packages}):
        for found in sorted(IMPURE_BELOW & tree_below(name)):
            yield f"{name}: is pure, and {found} is below it (cargo tree -p {name} -e normal -i {found})"


def check_simulator(packages, tree_below):
    for name, dependency, kind in dependencies(packages):
        if dependency == SIMULATOR and kind != "dev" and name not in MAY_SIMULATE:
            yield f"{name}: {SIMULATOR} may only be a dev-dependency here"
    for name in sorted(RELEASED & {package["name"] for package in packages}):
        if SIMULATOR in tree_below(name):
            yield f"{name}: is released, and {SIMULATOR} is below it"


def check_only_below(users_of):
    for only, allowed in ONLY_BELOW.items():
        for user in sorted(users_of(only) - allowed):
            yield f"{user}: depends on {only}, which only {' and '.join(sorted(allowed))} may"


def check_names(packages):
    """A rule about a crate that was renamed would hold for ever."""
    for name in sorted((PURE | PROGRAMS | RELEASED | MAY_SIMULATE) - {package["name"] for package in packages}):
        yield f"{name}: is named in a rule, and is no package of the workspace"


def check_manifests(packages, read):
    for package in packages:
        if (package["description"] or "DESC") == "DESC":
            yield f"{package['name']}: its manifest does not say what it is"
        inherits = re.search(r"^\[lints\]\s*^workspace = true", read(package["manifest_path"]), re.M)
        if not inherits and not package["folder"].startswith(UNSAFE_ALLOWED):
            yield f"{package['name']}: does not take the lints of the workspace"


def check_lint_files(files, read):
    """A nested clippy.toml replaces the one at the top, so it has to repeat it."""
    rules = [line.strip() for line in read("clippy.toml").splitlines()]
    for file in files:
        if file.endswith("/clippy.toml"):
            missing = set(rules) - {line.strip() for line in read(file).splitlines()}
            for line in sorted(missing):
                yield f"{file}: lacks a line of the clippy.toml at the top: {line}"


def check_files(files, read):
    for file in files:
        if not file.endswith(COUNTED):
            continue
        text = read(file)
        lines = text.count("\n")
        if lines > MAX_LINES:
            yield f"{file}: has {lines} lines, and {MAX_LINES} are allowed"
        if not file.endswith(".rs"):
            continue
        code = COMMENT_OR_TEXT.sub(lambda found: "\n" * found.group().count("\n") or " ", text)
        if not file.startswith(UNSAFE_ALLOWED):
            for line, content in enumerate(code.splitlines(), 1):
                if re.search(r"\bunsafe\b|\bunsafe_code\b", content):
                    yield f"{file}:{line}: unsafe is allowed in {' and '.join(UNSAFE_ALLOWED)} only"
        for line, content in enumerate(code.splitlines(), 1):
            if re.search(r"#\[ignore\b", content):
                yield f"{file}:{line}: a test that is never run proves nothing"


def check_verdict(files, read):
    """One verdict on admission exists. Everybody else passes on what it says, and nobody makes up one of their own."""
    for file in files:
        if not file.endswith(".rs") or file.startswith(VERDICT) or re.search(r"(^|/)tests?(/|\.rs$)", file):
            continue
        code = COMMENT_OR_TEXT.sub(lambda found: "\n" * found.group().count("\n") or " ", read(file))
        code = code.split("#[cfg(test)]\nmod tests {")[0]
        for line, content in enumerate(code.splitlines(), 1):
            if re.search(r"\bAdmission \{ *\w+:|\bOk\(Admission \{", content):
                yield f"{file}:{line}: only {VERDICT} admits anybody"
            if re.search(r"\bisAppAllowedCall\b", content) and not file.startswith(ASKS):
                yield f"{file}:{line}: the question is put to the chain in {' and '.join(ASKS)} only"


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"imports: failed: {' '.join(command)}")
    return done.stdout


def tree_below(name):
    """The names of everything that is compiled into a package on Linux, without what only its tests or build need."""
    tree = run("cargo", "tree", "--locked", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}")
    return {line.split()[0] for line in tree.splitlines() if line} - {name}


def users_of(name):
    """The names of the packages that depend on one, on any system, also for tests."""
    if not re.search(rf'^name = "{name}"$', read("Cargo.lock"), re.M):
        return set()
    edges = ("-e", "normal,build,dev", "--target", "all", "--depth", "1", "--prefix", "depth", "--format", " {p}")
    tree = run("cargo", "tree", "--locked", "--workspace", "-i", name, *edges)
    return {line.split()[1] for line in tree.splitlines() if line.startswith("1 ")}


def known_files():
    """Every file that git tracks or would add, and everything outside target/ where there is no git."""
    if os.path.exists(".git"):
        listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        return [file for file in listed if os.path.isfile(file)]
    skipped = {"target", "node_modules", ".git", ".demo", "out", "cache"}
    found = []
    for folder, folders, files in os.walk("."):
        folders[:] = [name for name in folders if name not in skipped]
        found += [os.path.relpath(os.path.join(folder, file)) for file in files]
    return found


def read(file):
    with open(file, encoding="utf-8", errors="replace") as opened:
        return opened.read()


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1"))
    members = set(metadata["workspace_members"])
    packages = [package for package in metadata["packages"] if package["id"] in members]
    for package in packages:
        package["folder"] = os.path.relpath(os.path.dirname(package["manifest_path"])) + "/"
    files = known_files()
    breaches = [
        *check_programs(packages),
        *check_pure(packages, tree_below),
        *check_simulator(packages, tree_below),
        *check_only_below(users_of),
        *check_names(packages),
        *check_manifests(packages, read),
        *check_lint_files(files, read),
        *check_files(files, read),
        *check_verdict(files, read),
    ]
    for breach in breaches:
        print(breach)
    if breaches:
        sys.exit(1)
    counted = sum(file.endswith(COUNTED) for file in files)
    print(f"{len(packages)} packages and {counted} source files keep the rules of the house")


if __name__ == "__main__":
    main()
