"""Fixtures shared by the whole suite: a real bundle, small and untrained."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from exploration import register_profiles
from hypothesis import settings
from order import longest_first

register_profiles()
settings.load_profile("project")  # `make test-all` asks for `explore`

# The types of message fields are checked, as ROS 2 Humble always does and later distributions do when asked to.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")

# A shell starts its background jobs deaf to Ctrl-C, and their children inherit it: those of the tests must hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist give files out in the order in which they come, and not by their number of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    items[:] = longest_first(items)


@pytest.fixture(scope="session", autouse=True)
def _denormals_are_numbers() -> None:
    """Let the process keep denormal numbers, which Hypothesis draws.

    The first session of ONNX Runtime in a process decides for its thread, for good. Ours take denormals for zero.
    """
    try:
        import onnxruntime
        from onnx import TensorProto, helper
    except ImportError:
        return
    one, other = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "first", [one], [other])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture
def on_page(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Note a number for a cell of docs/reliability.md, where `scripts/fill_reliability.py` puts it."""

    def note(value: float | str, *, row: str = "", column: str = "measured", text: str = "{:.2f} s") -> None:
        cell = {"row": row or request.node.originalname, "column": column, "value": value, "text": text}
        print(f"{cell['row']}, {column}: {value if isinstance(value, str) else text.format(value)}")
        record_property("docs/reliability.md", json.dumps(cell))

    return note


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for cube-single's contract with random 32x32 networks, horizon 5 and two critics."""
    torch = pytest.importorskip("torch", reason="exporting a bundle needs the train extra")
    pytest.importorskip("ogbench", reason="the contract of cube-single needs the sim extra")
    from qgf_ros.bundle.manifest import CriticCard, Manifest
    from qgf_ros.bundle.store import write_bundle
    from qgf_ros.learning.algorithms.networks import CriticNetwork, VelocityNetwork
    from qgf_ros.learning.export.export import export_networks
    from qgf_sim.worlds.families import action_fields, observation_fields

    horizon, hidden = 5, (32, 32)
    observation, action = observation_fields("cube-single"), action_fields()
    sizes = sum(field.size for field in observation), horizon * len(action)
    generator = torch.Generator().manual_seed(7)
    velocity = VelocityNetwork(*sizes, hidden, generator)
    critic = CriticNetwork(2, 2, *sizes, hidden, generator)
    names = ["task1", "task2"]
    files, parity = export_networks(velocity, critic, names, sizes)
    manifest = Manifest(
        name="tiny",
        environment="cube-single",
        observation=observation,
        action=action,
        horizon=horizon,
        execution_horizon=2,
        control_rate=20.0,
        critics={
            name: CriticCard(task=name, task_id=i + 1, discount=0.99, ensemble_size=2, recommended_weight=0.1)
            for i, name in enumerate(names)
        },
        parity=parity,
    )
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    write_bundle(out, manifest, files)
    return out


@pytest.fixture
def tiny_policy(tiny_bundle: Path):  # type: ignore[no-untyped-def]
    """The tiny bundle, loaded."""
    from qgf_ros.runtime.policy import Policy

    return Policy.load(tiny_bundle)
