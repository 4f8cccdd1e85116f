"""A clock that runs on while the machine is suspended, because tokens expire then, too."""

from __future__ import annotations

import sys
import time

if sys.platform == "linux":

    def boot_now() -> float:
        """Return the seconds since the machine started, suspend included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def boot_now() -> float:
        """Return the seconds of a monotonic clock: those of macOS and Windows run in suspend."""
        return time.monotonic()
