#!/usr/bin/env python3
"""Every rule of imports.py finds its breach, and is quiet where there is none."""

import unittest

import imports


def package(name, *needs, folder="gateway/x/", description="What it is"):
    needs = [need if isinstance(need, tuple) else (need, None) for need in needs]
    dependencies = [{"name": need, "kind": kind} for need, kind in needs]
    manifest = folder + "Cargo.toml"
    return {
        "name": name, "description": description, "folder": folder, "manifest_path": manifest, "dependencies": dependencies,
    }  # fmt: skip


def nothing_below(_):
    return set()


class Imports(unittest.TestCase):
    def breaches(self, check, count):
        found = list(check)
        self.assertEqual(len(found), count, found)

    def test_nobody_imports_a_program(self):
        for kind in [None, "dev", "build"]:
            self.breaches(imports.check_programs([package("sidecar", ("gateway", kind))]), 1)
        self.breaches(imports.check_programs([package("gateway", "postern-gateway-core", "postern-attest")]), 0)

    def test_a_pure_crate_names_nothing_impure(self):
        for impure in ["tokio", "socket2", "rand", "postern-plumbing", "libc"]:
            self.breaches(imports.check_pure([package("postern-pgwire", impure)], nothing_below), 1)
        tested = package("postern-pgwire", ("tokio", "dev"), "bytes", "postern-identity")
        self.breaches(imports.check_pure([tested, package("gateway", "tokio")], nothing_below), 0)

    def test_nothing_impure_is_below_a_pure_crate(self):
        below = {"postern-attest": {"serde", "mio", "tokio"}, "postern-pgwire": {"rand"}}.__getitem__
        self.breaches(imports.check_pure([package("postern-attest"), package("postern-pgwire")], below), 2)

    def test_the_simulator_stays_out_of_releases(self):
        simulates = [package(name, "postern-simulator") for name in ["postern-world", "postern-measure"]]
        simulates.append(package("gateway", ("postern-simulator", "dev")))
        self.breaches(imports.check_simulator(simulates, nothing_below), 0)
        for kind in [None, "build"]:
            self.breaches(imports.check_simulator([package("postern-watch", ("postern-simulator", kind))], nothing_below), 1)
        self.breaches(imports.check_simulator([package("sidecar")], lambda _: {"postern-simulator"}), 1)

    def test_ring_has_one_user(self):
        self.breaches(imports.check_only_below(lambda _: {"boringtun"}), 0)
        self.breaches(imports.check_only_below(lambda _: {"boringtun", "rustls"}), 1)
        self.breaches(imports.check_only_below(lambda _: set()), 0)

    def test_a_rule_about_a_crate_that_is_gone_is_told(self):
        every = imports.PURE | imports.PROGRAMS | imports.MAY_SIMULATE
        self.breaches(imports.check_names([package(name) for name in every]), 0)
        self.breaches(imports.check_names([package(name) for name in every - {"gateway"}]), 1)

    def test_a_crate_says_what_it_is_and_takes_the_lints(self):
        def manifest(text):
            return lambda _: text

        inherits = manifest("[package]\n[lints]\nworkspace = true\n")
        self.breaches(imports.check_manifests([package("a")], inherits), 0)
        for description in ["DESC", None, ""]:
            self.breaches(imports.check_manifests([package("a", description=description)], inherits), 1)
        own = manifest('[lints.rust]\nunsafe_code = "deny"\n')
        self.breaches(imports.check_manifests([package("a")], own), 1)
        self.breaches(imports.check_manifests([package("a", folder="gateway/wireguard/")], own), 0)

    def test_a_nested_lint_file_repeats_the_one_at_the_top(self):
        texts = {"clippy.toml": "a = 1\nb = [\n    2,\n]\n", "x/clippy.toml": "# more\na = 1\nb = [\n  2,\n  3,\n]\n"}
        self.breaches(imports.check_lint_files(texts, texts.get), 0)
        texts["x/clippy.toml"] = "b = [\n]\n"
        self.breaches(imports.check_lint_files(texts, texts.get), 2)

    def file(self, name, text):
        return list(imports.check_files([name], {name: text}.get))

    def test_long_files_are_refused(self):
        self.assertEqual(self.file("a.rs", "\n" * 700), [])
        for name in ["a.rs", "b.sol", "c.py"]:
            self.assertEqual(self.file(name, "\n" * 701), [f"{name}: has 701 lines, and 700 are allowed"])
        self.assertEqual(self.file("Cargo.lock", "\n" * 9999), [])

    def test_unsafe_is_found_in_code_only(self):
        unsafe = "fn f() {\n    unsafe { g() }\n}\n"
        self.assertEqual(len(self.file("sidecar/src/a.rs", unsafe)), 1)
        self.assertIn("sidecar/src/a.rs:2:", self.file("sidecar/src/a.rs", unsafe)[0])
        self.assertEqual(len(self.file("sidecar/src/a.rs", "#![allow(unsafe_code)]\n")), 1)
        self.assertEqual(self.file("gateway/wireguard/src/tun.rs", unsafe), [])
        harmless = [
            "// unsafe\n", "/* unsafe\n */\n", '"unsafe"\n', '"\\" unsafe"\n', 'r#"an "unsafe" text"#\n', "let unsafely = 1;\n",
            "let quote = '\"'; // unsafe \"\n", "fn f<'a>(x: &'a str) {} // unsafe\n",
        ]  # fmt: skip
        for text in harmless:
            self.assertEqual(self.file("a.rs", text), [], text)
        hidden = ["'\"'; unsafe { g() } '\"'\n", '"\\\\"; unsafe { g() } "\\\\"\n', "fn f<'a>() { unsafe { g::<'a>() } }\n"]
        for text in hidden:
            self.assertEqual(len(self.file("a.rs", text)), 1, text)

    def test_nobody_else_decides_who_is_admitted(self):
        verdict = "fn f() -> Result<Admission, ()> {\n    Ok(Admission { block, expires })\n}\n"
        question = "let data = isAppAllowedCall { bootInfo }.abi_encode();\n"
        for file, text, count in [
            ("gateway/src/a.rs", verdict, 1), ("sidecar/src/a.rs", "let x = Admission { block: at, expires };\n", 1),
            ("sidecar/src/a.rs", question, 1), ("contracts/watch/src/ask.rs", question, 0),
            ("contracts/allowlist/src/admit.rs", verdict, 0), ("gateway/tests/common/chain.rs", verdict, 0),
            ("gateway/src/chain/changes/tests.rs", verdict, 0), ("gateway/src/a.rs", "// Ok(Admission { block, expires })\n", 0),
            ("gateway/src/a.rs", "#[cfg(test)]\nmod tests {\n" + verdict + "}\n", 0),
        ]:  # fmt: skip
            self.breaches(imports.check_verdict([file], {file: text}.get), count)

    def test_lines_are_counted_through_long_texts(self):
        text = '"one\ntwo"\n/* three\nfour */\nunsafe {}\n'
        self.assertIn("a.rs:5:", self.file("a.rs", text)[0])

    def test_ignored_tests_are_found(self):
        self.assertEqual(len(self.file("a.rs", "#[test]\n#[ignore]\nfn t() {}\n#[ignore = \"slow\"]\n")), 2)


if __name__ == "__main__":
    unittest.main()
