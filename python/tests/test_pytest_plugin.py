"""The fixture, as an app's tests use it."""

from __future__ import annotations

import os
import unittest

import domo_token
from domo_token.testing import FakeBroker

try:
    import pytest
except ImportError:
    print("SKIPPED the tests of the fixture: pytest is not installed", flush=True)
    raise unittest.SkipTest("pytest is not installed") from None


def test_fixture_is_the_default_broker(domo_token_broker: FakeBroker) -> None:
    domo_token_broker.grant("data", "t0ken")
    assert os.environ["DOMO_TOKEN_SOCKET"] == domo_token_broker.socket
    assert domo_token.Broker().token("data").text == "t0ken"
    assert domo_token_broker.requests == 1


def test_fixture_has_no_state_of_other_tests(domo_token_broker: FakeBroker) -> None:
    assert domo_token_broker.requests == 0
    domo_token_broker.fail("data", "unavailable", retry_after=3)
    with pytest.raises(domo_token.Unavailable) as caught:
        domo_token.Broker().token("data")
    assert caught.value.retry_after is not None
