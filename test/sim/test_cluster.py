"""A Ray cluster: the same function on the same versions, so the same results; what is amiss there is one sentence."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")

from qgf_ros.cli import main
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import BundleError, SimulationError
from qgf_sim import cluster
from qgf_sim.cluster import join_cluster
from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate
from qgf_sim.worlds.families import family_of
from qgf_sim.worlds.oracle_data import generate


class RayTaskError(Exception):
    """Carries what a job raised, as Ray's own does."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("Traceback\nof many lines")
        self.cause = cause


class StandIn(ModuleType):
    """Stands in for Ray: a job runs where it is waited for, and its arguments and results are sent as bytes."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.exceptions = SimpleNamespace(RayTaskError=RayTaskError, RayError=ConnectionError)
        self.cloudpickle = pickle  # functions of modules, by name
        self.joined: list[str] = []
        self.left = 0

    def init(self, address: str, **options: Any) -> None:
        self.joined.append(address)

    def shutdown(self) -> None:
        self.left += 1

    def remote(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        def wrap(function: Callable[..., Any]) -> Any:
            return SimpleNamespace(remote=lambda *values: (function, pickle.dumps(values)))

        return wrap

    def wait(self, references: list[Any]) -> tuple[list[Any], list[Any]]:
        return references[-1:], references[:-1]  # in another order than that of the jobs

    def get(self, reference: Any) -> Any:
        function, payload = reference
        try:
            return pickle.loads(pickle.dumps(function(*pickle.loads(payload))))
        except Exception as error:
            raise RayTaskError(error) from error


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "1")
    return stand_in


def half(number: int) -> int:
    """What the cluster is asked for in these tests."""
    if number % 2:
        raise BundleError(f"{number} is odd; give an even number")
    if number < 0:
        raise ZeroDivisionError
    return number // 2


def run(*jobs: int, function: Callable[[int], int] = half) -> dict[int, int]:
    with join_cluster("local") as joined:
        return dict(joined.run(function, jobs))


def test_each_job_comes_with_its_result_and_the_cluster_is_left(ray: StandIn) -> None:
    assert run(2, 4, 6) == {2: 1, 4: 2, 6: 3}
    assert (ray.joined, ray.left) == (["local"], 1)


def test_an_error_of_ours_is_raised_as_it_would_be_here(ray: StandIn) -> None:
    with pytest.raises(BundleError, match="^1 is odd; give an even number$"):
        run(1)
    assert ray.left == 1
    with pytest.raises(ZeroDivisionError):
        run(-2)


def test_an_error_on_another_machine_names_it(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["distant", "here"])
    monkeypatch.setattr("platform.node", lambda: next(names))
    with pytest.raises(BundleError, match="^on machine distant of the cluster: 1 is odd; give an even number$"):
        run(1)


def test_a_machine_without_what_the_work_needs_is_named(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    only_here = ModuleType("only_here")
    exec("def work(job): return job", vars(only_here))
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    get = ray.get

    def elsewhere(reference: Any) -> Any:
        monkeypatch.delitem(sys.modules, "only_here")
        return get(reference)

    ray.get = elsewhere  # type: ignore[method-assign]
    with pytest.raises(
        SimulationError,
        match=r"^machine \S+ of the Ray cluster cannot import what the work needs \(No module named 'only_here'\); "
        "install there what is installed here, with its extra sim$",
    ):
        run(1, function=only_here.work)


def test_a_machine_with_other_versions_is_refused(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    there = cluster.versions()
    asked = iter([{**there, "mujoco": "9.9"}, there])
    monkeypatch.setattr(cluster, "versions", lambda: next(asked))
    with pytest.raises(SimulationError, match=r"of the Ray cluster has mujoco \S+ where this one has 9.9; install"):
        run(2)


def test_a_machine_that_was_lost_is_one_sentence(ray: StandIn) -> None:
    def lost(reference: Any) -> Any:
        raise ConnectionError("a raylet died\nand more")

    ray.get = lost  # type: ignore[method-assign]
    with pytest.raises(SimulationError, match=r"^a machine of the Ray cluster was lost \(a raylet died\); run the"):
        run(2)


def test_versions_are_those_that_decide_an_episode() -> None:
    assert set(cluster.versions()) == {"qgf_ros", "mujoco", "numpy", "ogbench", "onnxruntime"}


@pytest.mark.parametrize("command", ["evaluate {bundle} --task 1 --episodes 1", "generate cube-single --out {out}"])
def test_without_ray_the_extra_is_named_and_nothing_is_left(
    command: str,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = command.format(bundle=tiny_bundle, out=tmp_path / "data.npz").split()
    assert main([*words, "--ray", "auto"]) == 2
    (complaint,) = capsys.readouterr().err.strip().splitlines()
    assert complaint.startswith("qgf: ray cannot be imported")
    assert "[ray]" in complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", ["evaluate {bundle} --task 1 --episodes 1", "generate cube-single --out {out}", "tune {bundle} --task 1"]
)
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--ray head:gcs", "qgf: no Ray cluster can be joined at head:gcs ("),
        ("--ray auto --workers 2", "qgf: --workers 2 was given with --ray auto; a cluster uses each of its cores"),
    ],
)
def test_a_mistaken_cluster_is_one_sentence_and_nothing_is_left(
    command: str,
    options: str,
    complaint: str,
    ray: StandIn,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = command.format(bundle=tiny_bundle, out=tmp_path / "data.npz").split()
    assert main([*words, *options.split()]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(complaint)
    assert list(tmp_path.iterdir()) == []
    assert not ray.joined


@pytest.fixture(scope="module")
def plan(tiny_bundle: Path) -> EvaluationPlan:
    """Two jobs, of two episodes and of one."""
    return EvaluationPlan(tiny_bundle, 1, (0.1,), 3, RunOptions(seed=3), batch_size=1, record=True)


@pytest.fixture(scope="module")
def in_this_process(plan: EvaluationPlan) -> dict[float, list[Any]]:
    return told(evaluate(plan))


def told(results: dict[float, list[Any]]) -> dict[float, list[Any]]:
    """Return all that does not depend on time."""
    return {
        weight: [(e.seed, e.success, e.length, e.commands.tobytes(), repr(e.values)) for e in episodes]
        for weight, episodes in results.items()
    }


def test_an_evaluation_on_a_cluster_is_the_same_bit_for_bit(
    plan: EvaluationPlan, in_this_process: dict[float, list[Any]], ray: StandIn
) -> None:
    ended: list[Any] = []
    with join_cluster("local") as joined:
        assert told(evaluate(plan, ended.append, joined)) == in_this_process
    assert len(ended) == 3


def test_another_bundle_on_a_machine_ends_the_evaluation(
    plan: EvaluationPlan, ray: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = iter(["expected", "found"])
    monkeypatch.setattr("qgf_sim.rollouts.evaluate.fingerprint", lambda manifest: next(marks))
    complaint = "tiny is not the bundle whose evaluation began; have the same one everywhere, and evaluate it again"
    with pytest.raises(BundleError, match=complaint), join_cluster("local") as joined:
        evaluate(plan, cluster=joined)


def test_a_machine_without_the_bundle_is_named(
    plan: EvaluationPlan, ray: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(plan.bundle, tmp_path / "tiny"))
    get = ray.get

    def elsewhere(reference: Any) -> Any:
        shutil.rmtree(bundle, ignore_errors=True)
        monkeypatch.setattr("platform.node", iter(["distant", "here"]).__next__)
        return get(reference)

    ray.get = elsewhere  # type: ignore[method-assign]
    complaint = "^on machine distant of the cluster: [^\n]*tiny[^\n]*$"
    with pytest.raises(BundleError, match=complaint), join_cluster("local") as joined:
        evaluate(replace(plan, bundle=bundle), cluster=joined)


def make(out: Path, **options: Any) -> list[bytes]:
    return [path.read_bytes() for path in generate("cube-single", "play", 2, 5, out, steps=12, **options)]


def test_a_data_set_from_a_cluster_is_the_same_bytes_and_goes_on_where_it_stopped(ray: StandIn, tmp_path: Path) -> None:
    def stop_at_one(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="stopped; 1 of 3 episodes are kept in .*, the same command goes on"):
        make(tmp_path / "there.npz", ray="local", progress=stop_at_one)
    counts: list[int] = []
    assert make(tmp_path / "there.npz", ray="local", progress=lambda done, total: counts.append(done)) == make(
        tmp_path / "here.npz", workers=1
    )
    assert counts == [1, 2, 3]
    assert ray.left == 2
    assert not (tmp_path / "there.npz.partial").exists()


@pytest.fixture(scope="module")
def two_workers() -> str:
    """Address of a real cluster of this machine with two cores to run jobs on."""
    pytest.importorskip("ray", reason="needs the ray extra")
    return "local"


@pytest.mark.slow
def test_two_workers_of_ray_evaluate_and_generate_the_same(
    two_workers: str,
    plan: EvaluationPlan,
    in_this_process: dict[float, list[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only_here = ModuleType("only_here")
    exec("def work(job): return job", vars(only_here))
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    with join_cluster(two_workers, num_cpus=2) as joined:
        assert told(evaluate(plan, cluster=joined)) == in_this_process
        with pytest.raises(SimulationError, match=r"^machine .* cannot import what the work needs \(No module named"):
            list(joined.run(only_here.work, [1]))
        with pytest.raises(SimulationError, match="^[^\n]*cube-dozen[^\n]*$"):
            list(joined.run(family_of, ["scene", "cube-dozen"]))
    assert make(tmp_path / "there.npz", ray=two_workers) == make(tmp_path / "here.npz", workers=1)


@pytest.mark.slow
def test_ctrl_c_leaves_ray_without_a_traceback_and_says_what_is_kept(two_workers: str, tmp_path: Path) -> None:
    out = tmp_path / "data.npz"
    command = [sys.executable, "-m", "qgf_ros.cli", "generate", "cube-single", "--out", str(out), "--episodes", "40"]
    process = subprocess.Popen(
        [*command, "--ray", two_workers],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    kept = tmp_path / "data.npz.partial"
    deadline = time.monotonic() + 240.0
    while not list(kept.glob("train-*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in complaint
    assert "episodes are kept in" in complaint.strip().splitlines()[-1]
    assert list(kept.glob("train-*"))
    assert not out.exists()
