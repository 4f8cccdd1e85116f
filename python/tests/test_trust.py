"""Whose server is accepted, by the rules of the Rust client."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import unittest
from unittest import mock

import domo_token
from domo_token import _trust
from domo_token._find_socket import CALLER, HOST, Target
from domo_token._trust import check_owner, overflow_uid, server_uid
from domo_token.testing import FakeBroker

#: A user that owns nothing here.
_STRANGER = 54321


@unittest.skipUnless(sys.platform == "linux", "only Linux identifies the server")
class Trust(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def target(self, origin: str = CALLER) -> Target:
        path = os.path.join(self.folder, "broker.sock")
        return Target(path, origin, [path])

    def denied(self, uid: int, origin: str = CALLER) -> str:
        with self.assertRaises(domo_token.NotPermitted) as caught:
            check_owner(self.target(origin), uid)
        self.assertEqual((caught.exception.kind, caught.exception.exit_code), ("untrusted", 77))
        return str(caught.exception)

    def test_root_this_user_and_the_owner_of_the_directory_are_accepted(self) -> None:
        check_owner(self.target(), 0)
        check_owner(self.target(), os.geteuid())
        if os.geteuid() == 0:
            os.chown(self.folder, _STRANGER, -1)
            check_owner(self.target(), _STRANGER)

    def test_other_server_is_denied(self) -> None:
        message = self.denied(_STRANGER)
        self.assertIn(f"it runs as user {_STRANGER}", message)
        self.assertTrue(message.endswith("no request was sent"))

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_directory_of_another_user_is_denied_on_a_default_path_alone(self) -> None:
        os.chown(self.folder, _STRANGER, -1)
        message = self.denied(0, HOST)
        self.assertIn(f"{self.folder} belongs to user {_STRANGER}, who can replace it", message)
        check_owner(self.target(CALLER), 0)

    def test_server_without_a_uid_is_accepted_only_in_directories_of_their_owners(self) -> None:
        unknown = overflow_uid()
        check_owner(self.target(), unknown)
        for mode in (0o720, 0o702, 0o1777):
            os.chmod(self.folder, mode)
            self.assertIn("has no uid in this user namespace", self.denied(unknown))
        os.chmod(self.folder, 0o700)
        # Above a default path no directory may be writable by others, sticky or not: /tmp is.
        self.assertIn("/tmp", self.denied(unknown, HOST))

    def test_symlink_leads_to_directories_that_count_too(self) -> None:
        unknown = overflow_uid()
        real = os.path.join(self.folder, "real")
        os.mkdir(real)
        os.chmod(real, 0o777)
        os.symlink(os.path.join(real, "broker.sock"), self.target().path)
        self.assertIn("real has no uid", self.denied(unknown))

    def test_caller_without_a_uid_is_not_the_owner_that_is_shown(self) -> None:
        with mock.patch.object(os, "geteuid", return_value=overflow_uid()):
            os.chmod(self.folder, 0o777)
            self.denied(overflow_uid())

    def test_connected_server_is_identified_by_the_kernel(self) -> None:
        with FakeBroker() as fake, socket.socket(socket.AF_UNIX) as stream:
            stream.connect(fake.socket)
            self.assertEqual(server_uid(stream), os.geteuid())

    def test_nothing_is_sent_to_an_untrusted_server(self) -> None:
        with FakeBroker() as fake, mock.patch.object(_trust, "server_uid", return_value=_STRANGER):
            with self.assertRaises(domo_token.NotPermitted):
                fake.broker().token("data")
            self.assertEqual(fake.requests, 0)


if __name__ == "__main__":
    unittest.main()
