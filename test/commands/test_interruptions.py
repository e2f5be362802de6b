"""Ctrl-C as a request."""

from __future__ import annotations

import signal

import pytest

from qgf_ros.commands.show.interruptions import interruptions


@pytest.fixture(autouse=True)
def _own_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if number != signal.SIGHUP:  # tests set that one
            assert signal.getsignal(number) == handler, "the handlers of before are back"
        signal.signal(number, handler)


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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, "143"), (signal.SIGHUP, "129")])
def test_other_signals_exit_with_their_status_once_they_are_granted(number, status):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
    with interruptions() as asked:
        signal.raise_signal(number)
        with pytest.raises(SystemExit, match=status):
            asked.grant()


def test_a_closed_terminal_does_not_end_what_nohup_started():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptions() as asked:
        signal.raise_signal(signal.SIGHUP)
        assert not asked()


def test_the_second_ctrl_c_does_not_wait():
    with interruptions():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_patient_request_is_not_disturbed_by_further_signals():
    with interruptions(patient=True) as asked:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            asked.grant()
        signal.raise_signal(signal.SIGINT)  # while everything is put back
