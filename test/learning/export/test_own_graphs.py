"""Bundles with graphs of their own, from training to a command: what they are guided by, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from rich.console import Console  # noqa: E402

from qgf_ros.analysis.compute import measure_compute  # noqa: E402
from qgf_ros.analysis.inputs import load_primitives  # noqa: E402
from qgf_ros.bundle.own_graphs import GRADIENT_WEIGHTS, own_estimators  # noqa: E402
from qgf_ros.bundle.store import file_record, read_bundle, update_manifest  # noqa: E402
from qgf_ros.cli import main  # noqa: E402
from qgf_ros.commands.show.card import card  # noqa: E402
from qgf_ros.control.controller import Controller  # noqa: E402
from qgf_ros.control.noise import NoiseSource  # noqa: E402
from qgf_ros.control.observation import Observation  # noqa: E402
from qgf_ros.control.run_options import RunOptions  # noqa: E402
from qgf_ros.errors import BundleError, GuidanceError, SimulationError  # noqa: E402
from qgf_ros.evaluation import tuning  # noqa: E402
from qgf_ros.guidance.shaping import Guidance  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import Problem  # noqa: E402
from qgf_ros.learning.algorithms.catalogue import ALGORITHMS  # noqa: E402
from qgf_ros.learning.algorithms.networks import time_embedding  # noqa: E402
from qgf_ros.learning.algorithms.options import OPTIONS  # noqa: E402
from qgf_ros.learning.checkpoint import save_checkpoint  # noqa: E402
from qgf_ros.learning.export.export import export_bundle  # noqa: E402
from qgf_ros.learning.trainer import TrainingConfig  # noqa: E402
from qgf_ros.runtime.policy import Policy  # noqa: E402

FIELD = {
    "name": "state",
    "topic": "state",
    "message_type": "std_msgs/msg/Float64MultiArray",
    "extraction": "data",
    "size": 4,
    "unit": "1",
}
ACTIONS = [{"name": n, "unit": "m", "scale": 0.1, "lower": -0.1, "upper": 0.1} for n in ("x", "y", "z")]
S, NOISE = (np.random.default_rng(i).standard_normal(size, np.float32) for i, size in ((1, (1, 4)), (2, (1, 1, 6))))

Make = Callable[[str], tuple[Any, Path]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A function that exports an algorithm's first policy, of random networks, and returns the algorithm and the bundle."""

    def build(name: str) -> tuple[Any, Path]:
        options = OPTIONS[name].from_dict({"hidden": (16, 16)})
        trained = ALGORITHMS[name](options, Problem(("reach", "push"), 4, 6), torch.Generator().manual_seed(1))
        with torch.no_grad():  # shifts that are all 0 would hide a mistake
            for parameter in trained.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
        header = {
            "config": {**TrainingConfig(horizon=2).to_dict(), **options.to_dict()},
            "algorithm": name,
            "critics": ["reach", "push"],
            "tasks": ["reach the cup", "push the cup"],
            "task_ids": [None, None],
            "environment": None,
            "observation": [FIELD],
            "action": ACTIONS,
            "control_rate": 10.0,
        }
        save_checkpoint(tmp_path / name, 9, {**trained.state_dict(), "step": torch.tensor(9)}, header)
        export_bundle(tmp_path / name, tmp_path / "mine", policy=next(iter(trained.policies())))
        return trained, tmp_path / "mine"

    return build


def euler(velocity: Callable[[Any, Any], Any], noise: Any = NOISE[0]) -> Any:
    """Return the chunk [C] of ten steps of a velocity over torch from the noise [1, C]."""
    a = torch.from_numpy(noise)
    for k in range(10):
        a = a + velocity(a, torch.full((1,), k / 10)) / 10
    return a.clamp(-1, 1)[0].detach().numpy()


def test_the_estimator_robust_climbs_the_critic_of_noised_chunks(make: Make) -> None:
    trained, path = make("robust_q")
    policy, s = Policy.load(path), torch.from_numpy(S)
    assert own_estimators(policy.manifest) == ("robust",)
    policy.warm_up()
    for number, critic in enumerate(("reach", "push")):

        def guided(a: Any, t: Any, number: int = number) -> Any:
            leaf = a.detach().requires_grad_()
            q = trained.robust(torch.cat([s, leaf, time_embedding(t)], dim=-1))[number].sum()
            return trained.velocity(s, a, t) + 0.3 * torch.autograd.grad(q, leaf)[0]

        (chunk,) = policy.act(S, NOISE, critic, 0.3, Guidance(estimator="robust"))
        np.testing.assert_allclose(chunk.actions.ravel(), euler(guided), atol=1e-4)
        (plain,) = policy.act(S, NOISE, critic, 0.0, Guidance(estimator="robust"))
        assert np.abs(chunk.actions - plain.actions).max() > 1e-3


def test_classifier_free_guidance_goes_from_the_field_of_all_data_to_that_of_the_chosen(make: Make) -> None:
    trained, path = make("cfgrl")
    policy, s = Policy.load(path), torch.from_numpy(S)
    assert own_estimators(policy.manifest) == ("classifier_free",)
    policy.warm_up()
    for weight in (0.0, 1.0, 3.0):

        def guided(a: Any, t: Any, weight: float = weight) -> Any:
            plain, filtered = (trained.actor(s, a, t, condition)[0] for condition in (0, 1))
            return plain + weight * (filtered - plain)

        (chunk,) = policy.act(S, NOISE, "reach", weight, Guidance(estimator="classifier_free"))
        np.testing.assert_allclose(chunk.actions.ravel(), euler(guided), atol=1e-4)


def test_a_run_of_two_velocity_fields_needs_no_word_but_its_weight(make: Make) -> None:
    trained, path = make("cfgrl")
    policy = Policy.load(path)
    settings = RunOptions(guidance_weight=3.0).resolve(policy.manifest)
    assert settings.estimator == "classifier_free"
    assert settings.resolve(policy.manifest) == settings
    assert RunOptions(3.0, estimator="classifier_free").resolve(policy.manifest) == settings
    controller = Controller(policy, RunOptions(guidance_weight=3.0, seed=4))
    command = controller.tick(Observation(S[0], 0))
    s = torch.from_numpy(S)

    def guided(a: Any, t: Any) -> Any:
        plain, filtered = (trained.actor(s, a, t, condition)[0] for condition in (0, 1))
        return plain + 3.0 * (filtered - plain)

    expected = euler(guided, NoiseSource(4).draw(1, 6).reshape(1, 6))
    np.testing.assert_allclose(command.values, 0.1 * expected[:3], atol=1e-5)


def test_what_no_gradient_guides_is_not_counted_as_if_one_did(make: Make) -> None:
    _, path = make("cfgrl")
    found = measure_compute(path, load_primitives(path), candidates=(1, 2), rounds=1, warm_up=0)
    assert [(case["method"], case["candidates"]) for case in found["cases"]] == [("bc", 1), ("bc", 2)]


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("iql_flow", {"estimator": "robust"}, "bundle mine has no q_robust_grad.onnx for it, choose one of qgf, "),
        ("iql_flow", {"estimator": "classifier_free"}, "bundle mine has no velocity.onnx for it, choose one of qgf"),
        ("robust_q", {"estimator": "classifier_free"}, "choose one of qgf, .*, grad_step, robust$"),
        ("cfgrl", {"estimator": "noisy"}, "is guided by the difference of two velocity fields"),
        ("cfgrl", {"estimator": "robust"}, "leave the estimator at its default, or set classifier_free"),
        ("cfgrl", {"estimator": "grad_step"}, "leave the estimator at its default, or set classifier_free"),
        ("cfgrl", {"disagreement_scale": 1.0}, "disagreement_scale 1.0 was given with classifier_free"),
    ],
)
def test_an_estimator_that_a_bundle_has_no_graph_for_is_refused_by_name(
    make: Make, name: str, options: dict[str, Any], told: str
) -> None:
    _, path = make(name)
    manifest, _ = read_bundle(path)
    assert RunOptions().resolve(manifest).estimator == ("classifier_free" if name == "cfgrl" else "qgf")
    with pytest.raises(GuidanceError, match=told):
        RunOptions(0.5, **options).resolve(manifest)


@pytest.mark.parametrize(
    ("name", "file"), [("robust_q", "critics/push/q_robust_grad.onnx"), ("cfgrl", "critics/reach/velocity.onnx")]
)
def test_a_graph_of_its_own_is_checked_like_a_primitive(make: Make, name: str, file: str) -> None:
    _, path = make(name)
    manifest, files = read_bundle(path)
    assert {
        f"{file}/{output}" for output in (("q", "dq_da") if name == "robust_q" else ("v",))
    } <= manifest.parity.keys()
    (path / file).write_bytes(files["velocity_vjp.onnx"])
    with pytest.raises(BundleError, match=f"{file} "):
        read_bundle(path)
    record = file_record(files["velocity_vjp.onnx"])
    update_manifest(path, manifest.model_copy(update={"files": {**manifest.files, file: record}}))
    with pytest.raises(BundleError, match=rf"{file}: .*; export the bundle again$"):
        read_bundle(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("iql_flow", ("one behaviour-cloned velocity field", "qgf, qgf_jacobian")),
        ("edp", ("trained to climb its critic (EDP)", "qgf, qgf_jacobian")),
        ("robust_q", ("climbs critics of noised chunks", "grad_step, robust")),
        ("cfgrl", ("two velocity fields, of all data and of what the critic chose", "classifier_free")),
    ],
)
def test_the_card_says_what_a_bundle_is_and_what_guides_it(
    make: Make, capsys: pytest.CaptureFixture[str], name: str, said: tuple[str, ...]
) -> None:
    manifest, _ = read_bundle(make(name)[1])
    Console(width=300).print(card(manifest))
    text = capsys.readouterr().out
    assert all(words in text for words in said)
    assert ("qgf_jacobian" in text) == (name != "cfgrl")


@pytest.mark.parametrize("name", ["robust_q", "cfgrl"])
def test_the_weights_that_are_tried_are_those_of_what_they_scale(
    make: Make, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = make(name)

    def refused(weights: tuple[float, ...], *others: Any, **more: Any) -> None:
        raise SimulationError(f"tried {weights}")

    monkeypatch.setattr(tuning, "Protocol", refused)
    assert main(["tune", str(path)]) == 2
    tried = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0) if name == "cfgrl" else GRADIENT_WEIGHTS
    assert f"tried {tried}" in capsys.readouterr().err
