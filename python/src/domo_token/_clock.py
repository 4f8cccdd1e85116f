"""A clock that runs on while the machine is suspended, because tokens expire then, too."""

from __future__ import annotations

import sys
import time

if sys.platform == "linux":

    def boot_now() -> float:
        """Return the seconds since the machine started, suspend included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

elif sys.platform == "darwin":

    def boot_now() -> float:
        """Return the seconds of a clock that runs in suspend, which time.monotonic() does not."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)

else:

    def boot_now() -> float:
        """Return the seconds of a monotonic clock: that of Windows runs in suspend."""
        return time.monotonic()
