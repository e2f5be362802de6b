"""Ctrl-C as a request."""

from __future__ import annotations

import signal

import pytest

from qgf_ros.commands.interruptions import interruptions


@pytest.fixture(autouse=True)
def _own_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) == handler, "the handlers of before are back"


def test_nobody_asked():
    with interruptions() as asked:
        assert not asked()
        asked.grant()


def test_ctrl_c_waits_until_it_is_granted():
    with interruptions() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            asked.grant()


def test_sigterm_exits_with_143_once_it_is_granted():
    with interruptions() as asked:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit, match="143"):
            asked.grant()


def test_the_second_ctrl_c_does_not_wait():
    with interruptions():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
