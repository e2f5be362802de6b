"""What pytest does differently for a mutant: chosen tests in a chosen order, no shrinking, and no patience with a hang."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

#: A single test may take so long [s], and as many times its usual processor time, before it counts as hanging.
PATIENCE, SLOWER = 20.0, 20.0


def run(copy: Path, files: list[str], order: Mapping[str, float] | None, temporary: Path) -> dict[str, Any]:
    """Run tests in this process, and return how they ended.

    Returns:
        ``status`` of pytest, the tests that ``failed``, and without ``order`` also ``seconds`` of the processor and
        ``lines`` of each test: those of each module of the package that it runs.
    """
    plugin = _Eyes(copy) if order is None else _Orders(order)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--tb=short", "-m", "not slow"]
    options += [f"--rootdir={copy}", f"--basetemp={temporary}", *(["-x"] if order is not None else [])]
    status = 0
    for file in files:  # one after another: a file that is not needed any more is not even loaded
        status = status or int(pytest.main([*options, file], plugins=[plugin]))
    return {"status": status, "failed": plugin.failed, **plugin.told()}


class _Observer:
    def __init__(self) -> None:
        self.failed: list[str] = []

    def told(self) -> dict[str, Any]:
        return {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Do without the smallest example: any will do, and shrinking takes minutes. And see whose code is tested."""
        import hypothesis

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutant", hypothesis.settings(), phases=phases)
        hypothesis.settings.load_profile("mutant")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


class _Orders(_Observer):
    """Runs the chosen tests in their order, and ends the process by SIGALRM when one hangs."""

    def __init__(self, order: Mapping[str, float]) -> None:
        super().__init__()
        self._order = order
        self._ranks = {name: rank for rank, name in enumerate(order)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._ranks]
        items[:] = sorted(chosen, key=lambda item: self._ranks[item.nodeid])

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, None, None]:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE + SLOWER * self._order[item.nodeid])
        yield
        signal.setitimer(signal.ITIMER_REAL, 0.0)


class _Eyes(_Observer):
    """Sees which lines each test runs, and for how long."""

    def __init__(self, copy: Path) -> None:
        super().__init__()
        import coverage

        self._coverage = coverage.Coverage(data_file=None, config_file=False, source=[str(copy / "qgf_ros")])
        self._coverage.start()
        self._copy, self._seconds = copy, dict[str, float]()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, None, None]:
        self._coverage.switch_context(item.nodeid)
        began = time.process_time()
        yield
        self._seconds[item.nodeid] = time.process_time() - began
        self._coverage.switch_context("")

    def told(self) -> dict[str, Any]:
        self._coverage.stop()
        data = self._coverage.get_data()
        lines: dict[str, dict[str, list[int]]] = {name: {} for name in self._seconds}
        for file in data.measured_files():
            module = Path(file).relative_to(self._copy).as_posix()
            for line, names in data.contexts_by_lineno(file).items():
                for name in filter(None, names):
                    lines[name].setdefault(module, []).append(line)
        return {"seconds": self._seconds, "lines": lines}
