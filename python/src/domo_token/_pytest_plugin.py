"""The fixture ``domo_token_broker`` for pytest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import FakeBroker


@pytest.fixture
def domo_token_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Return a fake broker, which ``DOMO_TOKEN_SOCKET`` names during the test."""
    # Here, so that pytest starts no slower where the package is installed.
    from .testing import FakeBroker

    with FakeBroker() as fake:
        monkeypatch.setenv("DOMO_TOKEN_SOCKET", fake.socket)
        yield fake
