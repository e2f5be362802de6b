"""The benchmark end to end on tiny networks, and its refusal to compare what is not the same function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="random bundles and a peer need the train extra")
pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")
pytest.importorskip("matplotlib", reason="figures need the analysis extra")

from qgf_ros.analysis.compute import Case
from qgf_ros.benchmark import peers_torch
from qgf_ros.benchmark import tick as benchmark
from qgf_ros.benchmark.figure import draw_benchmark
from qgf_ros.benchmark.latency import Schedule, Times
from qgf_ros.benchmark.random_bundle import NetworkShape, write_random_bundle
from qgf_ros.benchmark.tick import TOLERANCE, Contender, check_agreement, measure, results
from qgf_ros.benchmark.tick_plan import PEERS, Subject, TickPlan, load_policy, tick
from qgf_ros.commands.show.benchmark_tables import latency_tables
from qgf_ros.errors import GuidanceError
from qgf_ros.reports.numbers import plain
from qgf_ros.runtime import policy as policy_module
from qgf_ros.runtime.models import OnnxActionValue

SCHEDULE = Schedule(rounds=3, ticks=2, inputs=3)
PLAN = TickPlan(("bc", "qgf"), (1, 2), ("reference", "fused", "torch"), threads=1, schedule=SCHEDULE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "r"
    write_random_bundle(out, NetworkShape(2, 16, 7, 2, 2, 3))
    return out


@pytest.fixture(autouse=True)
def small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "copy_bandwidth", lambda threads: 1e10)


@pytest.fixture(scope="module")
def numbers(bundle: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "copy_bandwidth", lambda threads: 1e10)
        return measure({"a": bundle, "b": bundle}, PLAN)


def test_every_backend_is_timed_at_every_setting_of_every_network(numbers: dict[str, Any]) -> None:
    found = [(r["network"], r["method"], r["candidates"], r["backend"], r["precision"]) for r in numbers["results"]]
    assert found == [
        (network, method, n, backend, "fp32")
        for network in "ab"
        for method in ("bc", "qgf")
        for n in (1, 2)
        for backend in PLAN.backends
    ]


def test_the_record_has_everything_and_is_json(numbers: dict[str, Any]) -> None:
    assert numbers["schema"] == 1
    assert numbers["machine"]["threads"] == 1
    assert numbers["load"].keys() == {"before", "during"}
    assert numbers["plan"]["schedule"] == {"rounds": 3, "ticks": 2, "inputs": 3, "seed": 0}
    for result in numbers["results"]:
        assert result["latency_ms"].keys() == {"p50", "p90", "p99", "max", "jitter"}
        assert np.shape(result["rounds_ms"]) == (3, 2)
        calls = np.ravel(result["rounds_ms"])
        assert result["latency_ms"]["p50"] == pytest.approx(np.median(calls))
        assert result["latency_ms"]["max"] == pytest.approx(calls.max())
        assert result["throughput"] == pytest.approx(1e3 / calls.mean())
        assert result["difference"] <= TOLERANCE
        assert (result["guidance_distance"] > 100 * TOLERANCE) == (result["method"] != "bc")
        floor = result["floor"]
        assert floor["ms"] == pytest.approx(floor["bytes"] / 1e10 * 1e3)
        assert floor["multiple"] == pytest.approx(result["latency_ms"]["p50"] / floor["ms"])
    json.dumps(plain(numbers), allow_nan=False)


def test_ratios_are_ours_over_the_peers(numbers: dict[str, Any]) -> None:
    medians = {
        (r["network"], r["method"], r["candidates"], r["backend"]): r["latency_ms"]["p50"] for r in numbers["results"]
    }
    for result in numbers["results"]:
        setting = result["network"], result["method"], result["candidates"]
        if result["backend"] in PEERS:
            assert result["ratios"] == {}
        else:
            ours, theirs = medians[(*setting, result["backend"])], medians[(*setting, "torch")]
            assert result["ratios"] == pytest.approx({"torch": ours / theirs})


def test_progress_counts_checks_and_rounds(bundle: Path) -> None:
    notes: list[str] = []
    measure({"a": bundle}, TickPlan(("qgf",), (1,), ("reference", "torch"), threads=1, schedule=SCHEDULE), notes.append)
    assert len(notes) == 2 + SCHEDULE.rounds
    assert notes[1] == "a, qgf, N = 1, torch: agrees"


def test_it_can_be_drawn(numbers: dict[str, Any]) -> None:
    figure = draw_benchmark(plain(numbers))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "BC, N = 1",
        "BC, N = 2",
        "QGF, N = 1",
        "QGF, N = 2",
    ]


def test_a_peer_that_is_another_function_is_never_timed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer forgets a hundredth of the guidance."""
    original = peers_torch.torch_peer

    def wrong(networks: Any, case: Case, weight: float, *arguments: Any, **options: Any) -> Any:
        return original(networks, case, 0.99 * weight, *arguments, **options)

    monkeypatch.setattr(peers_torch, "torch_peer", wrong)
    monkeypatch.setattr(benchmark, "take_turns", lambda *_: pytest.fail("timed"))
    with pytest.raises(GuidanceError, match=r"torch: its action differs from the reference by \d.*a, qgf, N = 1"):
        measure({"a": bundle}, TickPlan(("qgf",), (1,), ("reference", "torch"), threads=1, schedule=SCHEDULE))


@pytest.mark.parametrize("off", [2e-4, np.nan, np.inf])
def test_one_wrong_component_of_one_input_is_enough(off: float) -> None:
    inputs = [(np.zeros((1, 2), np.float32), np.full((1, 3), i, np.float32)) for i in range(4)]

    def act(observation: Any, noise: Any) -> Any:
        action = noise[0].copy()
        if noise[0, 0] == 2:
            action[1] += off
        return action

    expected = np.stack([noise[0] for _, noise in inputs])
    right = Contender("a", Case("qgf", 1), "jax", "fp32", lambda observation, noise: noise[0], inputs, {})
    assert check_agreement(right, expected) == 0.0
    with pytest.raises(GuidanceError, match="jax: its action differs"):
        check_agreement(Contender("a", Case("qgf", 1), "jax", "fp32", act, inputs, {}), expected)


def test_a_reduced_precision_may_differ_and_says_by_how_much() -> None:
    inputs = [(np.zeros((1, 2)), np.zeros((1, 3)))]
    contender = Contender("a", Case("qgf", 1), "fused", "int8", lambda *_: np.full(3, 0.007), inputs, {})
    assert check_agreement(contender, np.zeros((1, 3))) == pytest.approx(0.007)


def test_ratios_stay_within_a_setting() -> None:
    facts = {"floor": {"bytes": 10, "ms": 1.0}}
    contenders = [
        Contender(network, Case("qgf", n), backend, "fp32", lambda *_: np.zeros(1), [], facts)
        for network, n, backend in (
            *(("a", 1, "reference"), ("a", 1, "torch"), ("a", 4, "reference")),
            *(("a", 4, "jax"), ("b", 1, "reference")),
        )
    ]
    times = [Times([[seconds]], seconds) for seconds in (1.0, 4.0, 3.0, 2.0, 9.0)]
    assert [result["ratios"] for result in results(contenders, times)] == [{"torch": 0.25}, {}, {"jax": 1.5}, {}, {}]


def test_a_critic_that_fails_is_no_fast_tick(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject.load("a", bundle, PLAN)
    policy = load_policy(subject, "reference", "fp32", PLAN)

    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(OnnxActionValue, "value_and_grad", fail)
    with pytest.raises(GuidanceError, match="critic random failed"):
        tick(policy, subject, Case("qgf", 1))(np.zeros((1, 7), np.float32), np.zeros((1, 4), np.float32))


def test_the_fast_path_is_not_timed_where_it_is_the_reference(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "load_fast_path", lambda *_: None)
    with pytest.raises(GuidanceError, match="a: there is no fast path for this bundle"):
        measure({"a": bundle}, TickPlan(("qgf",), (1,), threads=1, schedule=SCHEDULE))


def test_a_cpu_is_not_timed_where_a_gpu_was_asked_for(tmp_path: Path) -> None:
    write_random_bundle(tmp_path / "a", NetworkShape(1, 8, 3, 2, 1, 2))
    plan = TickPlan(providers=("MadeUpExecutionProvider",))
    subject = Subject.load("a", tmp_path / "a", plan)
    for backend, runs in (("fused", "fused fp32"), ("reference", "primitives fp32")):
        with pytest.raises(GuidanceError, match=f"a: provider MadeUpExecutionProvider was given, but {runs} runs"):
            load_policy(subject, backend, "fp32", plan)


def test_an_unknown_critic_is_refused(bundle: Path) -> None:
    with pytest.raises(GuidanceError, match="critic 'x' was given; bundle a has random"):
        Subject.load("a", bundle, TickPlan(critic="x"))


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with two cameras, one of which sends JPEG, and a critic with an encoder of its own."""
    pytest.importorskip("cv2", reason="pictures need the camera extra")
    from camera_bundles import write_camera_bundle

    return write_camera_bundle(tmp_path_factory.mktemp("bundles") / "seeing", critics={"near": None, "far": 5})


@pytest.mark.parametrize(
    ("critic", "backends", "runs"), [("near", ("reference", "fused"), 1), ("far", ("reference",), 2)]
)
def test_a_tick_of_a_bundle_that_sees_begins_with_pictures_and_says_what_they_take(
    seeing: Path, critic: str, backends: tuple[str, ...], runs: int
) -> None:
    plan = TickPlan(("bc", "qgf"), (1, 2), backends, threads=1, critic=critic, schedule=SCHEDULE)
    found = measure({"seeing": seeing}, plan)
    assert len(found["results"]) == 4 * len(backends)
    for result in found["results"]:
        sight = result["sight"]
        assert sight["encoder_runs"] == (1 if result["method"] == "bc" and result["candidates"] == 1 else runs)
        assert sight["decode_ms"] > 0.0 < sight["encode_ms"]
        assert sight["decode_share"] == pytest.approx(sight["decode_ms"] / result["latency_ms"]["p50"])
        assert 0.0 < sight["decode_share"] + sight["encode_share"] < 1.0
    cells = [cell for table in latency_tables(found) for column in table.columns for cell in column.cells]
    assert "decode ms" in cells
    assert "encoder runs" in cells


def test_a_bundle_that_sees_is_not_timed_beside_peers_without_encoders(seeing: Path) -> None:
    with pytest.raises(GuidanceError, match="bundle seeing sees, and jax would be timed without its encoders"):
        measure({"seeing": seeing}, TickPlan(backends=("reference", "jax"), schedule=SCHEDULE))
