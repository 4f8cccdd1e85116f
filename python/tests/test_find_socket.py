"""Which socket is used, by the rules of the Rust client."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from typing import Optional

import domo_token
from domo_token._find_socket import HOST_SOCKET, Address, Defaults, Target, home_in, is_root_mapped
from domo_token._socket_path import PathError, parse


class SocketPath(unittest.TestCase):
    def test_plain_paths_stay_as_they_are(self) -> None:
        plain = ["/run/x.sock", "x.sock", "./a:b", "/a:b", "~x", "a/~/b", "/unix:/x"]
        self.assertEqual([parse(path, "/home/etl") for path in plain], plain)

    def test_unix_urls_name_a_path(self) -> None:
        for url in ["unix:///run/x.sock", "unix:/run/x.sock", "UNIX:/run/x.sock"]:
            self.assertEqual(parse(url, None), "/run/x.sock")

    def test_wrong_values_name_what_to_write(self) -> None:
        example = "write a path such as /run/domo-token/broker.sock"
        for value, advice in [
            ("~/x.sock", "tilde is not expanded; write /home/etl/x.sock"),
            ("~", "tilde is not expanded; write /home/etl"),
            ("~ann/x.sock", "tilde is not expanded; write the full path"),
            ("unix://run/x.sock", "write unix:///run/x.sock"),
            ("unix://localhost/run/x.sock", "write unix:///run/x.sock"),
            ("unix:x.sock", "write unix:///x.sock"),
            ("unix:", example),
            ("unix://", example),
            ("unix:///run/a%20b", '"%" is not decoded'),
            ("http://localhost:1/", 'start with "http:"'),
            ("localhost:80", example),
            ("/x\0y", "null byte"),
        ]:
            with self.subTest(value), self.assertRaises(PathError) as caught:
                parse(value, "/home/etl")
            self.assertIn(advice, str(caught.exception))

    def test_long_scheme_which_may_be_a_secret_is_not_shown(self) -> None:
        with self.assertRaises(PathError) as caught:
            parse("c4narys3cretc4narys3cret:x", None)
        self.assertNotIn("c4nary", str(caught.exception))


class FindSocket(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.own = os.path.join(self.folder, "run/domo-token/broker.sock")
        self.config = os.path.join(self.folder, ".config/domo-token/config.toml")

    def target(self, uid: int = 1000) -> Target:
        env = {"XDG_RUNTIME_DIR": os.path.join(self.folder, "run"), "HOME": self.folder}
        return Defaults(uid, env, is_root=uid == 0).target()

    def make(self, path: str) -> None:
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()

    def test_default_is_the_own_socket_if_it_exists_else_the_hosts(self) -> None:
        found = self.target()
        self.assertEqual((found.path, found.tried), (HOST_SOCKET, [self.own, HOST_SOCKET]))
        self.make(self.own)
        found = self.target()
        self.assertEqual((found.path, found.tried, found.own_config), (self.own, [self.own], None))

    def test_own_config_excludes_the_host_except_for_root(self) -> None:
        self.make(self.config)
        found = self.target()
        self.assertEqual((found.path, found.tried), (self.own, [self.own]))
        error = found.not_running()
        self.assertIn(f"because {self.config} exists", str(error))
        self.assertTrue(str(error).endswith(f"export DOMO_TOKEN_SOCKET={HOST_SOCKET}"))
        self.assertEqual(error.exit_code, 69)
        self.assertEqual(self.target(0).path, HOST_SOCKET)

    def test_own_config_that_is_a_dangling_symlink_exists(self) -> None:
        Path(self.config).parent.mkdir(parents=True)
        os.symlink("/nowhere/config.toml", self.config)
        self.assertEqual(self.target().own_config, self.config)

    def test_relative_xdg_directories_are_ignored(self) -> None:
        env = {"XDG_RUNTIME_DIR": "relative", "XDG_CONFIG_HOME": "relative", "HOME": "/h"}
        found = Defaults(1000, env, is_root=False)
        self.assertEqual(found.own, "/run/user/1000/domo-token/broker.sock")
        self.assertEqual(found.own_config, "/h/.config/domo-token/config.toml")

    def test_own_config_is_where_the_daemon_looks_for_it(self) -> None:
        env = {"HOME": "/h", "XDG_CONFIG_HOME": "/c"}
        found = Defaults(1000, env, is_root=False).own_config
        self.assertEqual(found, "/c/domo-token/config.toml")

    def test_home_is_read_from_the_line_of_the_user(self) -> None:
        users = (
            "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:7:Ann:/home/ann:/bin/sh\nx:x:1:1::\n"
        )
        self.assertEqual(home_in(users, 1000), "/home/ann")
        self.assertIsNone(home_in(users, 1))
        self.assertIsNone(home_in(users, 7))

    def test_root_is_mapped_where_it_is_another_user_outside(self) -> None:
        self.assertTrue(is_root_mapped("         0       1000          1\n"))
        self.assertTrue(is_root_mapped("1 0 1\n0 100000 1\n"))
        for text in ["         0          0 4294967295\n", "1000 1000 1\n", ""]:
            self.assertFalse(is_root_mapped(text))

    def test_variable_is_the_only_path_tried(self) -> None:
        for value in ["/x/y.sock", "unix:///x/y.sock"]:
            target = Address(None, {"DOMO_TOKEN_SOCKET": value}).target()
            self.assertEqual((target.path, target.tried), ("/x/y.sock", ["/x/y.sock"]))
        message = str(target.not_running())
        self.assertTrue(message.startswith("$DOMO_TOKEN_SOCKET is /x/y.sock: no broker"), message)

    def test_argument_precedes_the_variable(self) -> None:
        target = Address(Path("/a.sock"), {"DOMO_TOKEN_SOCKET": "/x"}).target()
        self.assertEqual(target.path, "/a.sock")

    def test_variable_that_is_not_a_path_is_an_error_that_names_it(self) -> None:
        with self.assertRaises(domo_token.Error) as caught:
            Address(None, {"DOMO_TOKEN_SOCKET": "~/y.sock", "HOME": "/home/etl"})
        message = (
            '$DOMO_TOKEN_SOCKET is "~/y.sock": the tilde is not expanded; write /home/etl/y.sock'
        )
        self.assertEqual(str(caught.exception), message)
        self.assertEqual((caught.exception.kind, caught.exception.exit_code), ("invalid_socket", 2))

    def test_file_that_is_no_socket_is_not_running(self) -> None:
        path = os.path.join(self.folder, "file")
        Path(path).touch()
        with self.assertRaises(domo_token.NotRunning):
            domo_token.Broker(path, timeout=1).token("data")

    def test_path_of_a_directory_is_not_running(self) -> None:
        with self.assertRaises(domo_token.NotRunning):
            domo_token.Broker(self.folder, timeout=1).token("data")


class Denied(unittest.TestCase):
    def message(self, mode: int, folder_mode: Optional[int] = None) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "broker.sock")
            Path(path).touch()
            os.chmod(path, mode)
            target = Target(path, "host", [path])
            return str(target._not_permitted())

    def test_group_that_may_use_the_socket_is_named(self) -> None:
        self.assertIn("it is open to the members of group ", self.message(0o660))

    def test_socket_of_one_user_names_the_settings_that_open_it(self) -> None:
        message = self.message(0o600)
        self.assertIn(f"it is for user {os.getuid()} alone", message)
        self.assertTrue(message.endswith("set socket_group and socket_mode in the broker's config"))


if __name__ == "__main__":
    unittest.main()
