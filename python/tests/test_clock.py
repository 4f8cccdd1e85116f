"""Which clock decides whether a token has expired."""

from __future__ import annotations

import importlib.util
import types
import unittest
from unittest import mock

from domo_token import _clock


def clock_on(platform: str) -> types.ModuleType:
    """Return the module as another platform loads it."""
    spec = importlib.util.spec_from_file_location("clock", _clock.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch("sys.platform", platform):
        spec.loader.exec_module(module)
    return module


class Clocks(unittest.TestCase):
    def test_clock_runs_in_suspend(self) -> None:
        # clock_gettime(2) of Linux; clock_gettime(3) of macOS, whose time.monotonic() stops.
        clocks = {"linux": "CLOCK_BOOTTIME", "darwin": "CLOCK_MONOTONIC"}
        for platform, clock in clocks.items():
            with self.subTest(platform), mock.patch("time.clock_gettime") as read:
                with mock.patch(f"time.{clock}", 99, create=True):
                    clock_on(platform).boot_now()
                read.assert_called_once_with(99)
        with mock.patch("time.monotonic", return_value=5.0):
            self.assertEqual(clock_on("win32").boot_now(), 5.0)


if __name__ == "__main__":
    unittest.main()
