"""``python -m domo_token``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import domo_token
from domo_token.testing import FakeBroker

_TEXT = "a-b~c"


class Main(unittest.TestCase):
    def setUp(self) -> None:
        self.fake = FakeBroker()
        self.addCleanup(self.fake.close)
        self.fake.grant("data", _TEXT)

    def run_module(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        env = {**os.environ, "DOMO_TOKEN_SOCKET": self.fake.socket, **variables}
        command = [sys.executable, "-m", "domo_token", *arguments]
        found = subprocess.run(command, capture_output=True, text=True, env=env)
        return found.returncode, found.stdout, found.stderr

    def test_formats_are_those_of_the_helper(self) -> None:
        for form, line in [
            ("token", "a-b~c"),
            ("header", "Authorization: Bearer a-b~c"),
            ("curl", 'header = "Authorization: Bearer a-b~c"'),
            ("env", "DOMO_ACCESS_TOKEN=a-b~c"),
            ("export", "export DOMO_ACCESS_TOKEN='a-b~c'"),
            ("powershell", "$env:DOMO_ACCESS_TOKEN = 'a-b~c'"),
            ("fish", "set -gx DOMO_ACCESS_TOKEN 'a-b~c'"),
        ]:
            self.assertEqual(self.run_module("--format", form, "data"), (0, line + "\n", ""))
        self.assertEqual(self.run_module("-n", "data"), (0, "a-b~c", ""))

    def test_commands_of_the_helper_are_usage_errors_that_name_it(self) -> None:
        for arguments in (["status"], ["watch", "data"], ["exec", "data", "--", "true"]):
            code, text, error = self.run_module(*arguments)
            self.assertEqual((code, text), (2, ""), arguments)
            self.assertIn(f'no command "{arguments[0]}"; install the helper', error)
        code, text, error = self.run_module("-n", "data", "--", "true")
        self.assertEqual((code, text), (2, ""))
        self.assertIn("runs no commands", error)
        self.assertEqual(self.fake.requests, 0)
        self.assertEqual(self.run_module("-n", "--", "data"), (0, "a-b~c", ""))

    def test_values_out_of_range_are_usage_errors(self) -> None:
        for arguments in (["--timeout", "0"], ["--timeout", "11m"], ["--socket", ""]):
            code, text, error = self.run_module(*arguments, "data")
            self.assertEqual((code, text, error.count("\n")), (2, "", 1), arguments)

    def test_json_has_the_fields_of_the_helper(self) -> None:
        code, text, _ = self.run_module("-o", "json", "-c", "acme", "data")
        fields = json.loads(text)
        self.assertEqual((code, fields["access_token"], fields["client"]), (0, "a-b~c", "acme"))
        expected = {
            "access_token",
            "token_type",
            "expires_at",
            "expires_in",
            "scope",
            "client",
            "generation",
            "broker",
        }
        self.assertEqual(set(fields), expected)
        self.assertIs(type(fields["expires_at"]), int)

    def test_client_is_read_from_the_environment(self) -> None:
        _, text, _ = self.run_module("-o", "json", "data", DOMO_TOKEN_CLIENT="acme")
        self.assertEqual(json.loads(text)["client"], "acme")

    def test_errors_are_one_line_with_the_exit_code_of_the_helper(self) -> None:
        self.fake.fail("denied", "denied")
        self.fake.fail("no", "not_permitted")
        self.fake.fail("later", "unavailable")
        for arguments, code in [
            ([], 2),
            (["--other", "data"], 2),
            (["--format", "xml", "data"], 2),
            (["--min-ttl", "x", "data"], 2),
            (["--min-ttl", "-1", "data"], 2),
            (["--timeout", "0", "data"], 2),
            (["--socket", "http://x", "data"], 2),
            (['da"ta'], 2),
            (["--socket", "/nonexistent/x.sock", "data"], 69),
            (["later"], 75),
            (["no"], 77),
            (["denied"], 78),
            (["--min-ttl", "1h30m", "data"], 78),
        ]:
            found, output, message = self.run_module(*arguments)
            self.assertEqual((found, output), (code, ""), arguments)
            self.assertTrue(message.startswith("domo_token: "), message)
            self.assertEqual(message.count("\n"), 1)

    def test_output_that_cannot_be_written_is_74(self) -> None:
        env = {**os.environ, "DOMO_TOKEN_SOCKET": self.fake.socket}
        for redirection in (">&-", ">/dev/full"):
            command = f'"$0" -m domo_token data {redirection}'
            found = subprocess.run(
                ["sh", "-c", command, sys.executable], capture_output=True, text=True, env=env
            )
            self.assertEqual((found.returncode, found.stderr.count("\n")), (74, 1), found.stderr)

    def test_version_is_that_of_the_workspace(self) -> None:
        manifest = Path(__file__).parents[2] / "Cargo.toml"
        if not manifest.exists():
            self.skipTest("not in the repository")
        found = re.search(r'\[workspace\.package\]\nversion = "(.*)"', manifest.read_text())
        assert found is not None
        self.assertEqual(domo_token.__version__, found.group(1))
        self.assertEqual(self.run_module("--version")[1], f"domo_token {found.group(1)}\n")

    def test_licences_are_those_of_the_repository(self) -> None:
        package = Path(__file__).parents[1]
        if not (package.parent / "Cargo.toml").exists():
            self.skipTest("not in the repository")
        for name in ("LICENSE-MIT", "LICENSE-APACHE"):
            text = (package / name).read_text(encoding="utf-8")
            self.assertEqual(text, (package.parent / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
