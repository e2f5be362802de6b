"""Environments that are made quickly, and goal-conditioned bundles, shared by the tests of the simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

#: Tests of environments themselves, and of their copies.
NEW_ONES = ("test_environment", "test_shifted_environment", "test_rendering")


@pytest.fixture(scope="module", autouse=True)
def ready(request: pytest.FixtureRequest) -> Iterator[None]:
    """Environments that are copies of one made before, but for the tests of environments themselves."""
    if request.path.stem in NEW_ONES or find_spec("ogbench") is None:
        yield
        return
    from ready_environments import ready_environments

    with ready_environments():
        yield


@pytest.fixture(scope="module")
def short() -> Iterator[None]:
    """Episodes of 40 control steps, in this process and over the bridges of the demo."""
    from short_episodes import short_episodes

    with short_episodes():
        yield


@pytest.fixture(scope="module")
def goal_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A goal-conditioned bundle for cube-single with random networks, which wants to be told the goal."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "goals")


@pytest.fixture(scope="module")
def object_goal_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but it wants to be told no more than where the cube is to be."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "object-goals", ["object_0_position"])


def make_bundle(out: Path, goal_fields: Sequence[str] = ()) -> Path:
    torch = pytest.importorskip("torch", reason="exporting a bundle needs the train extra")
    from qgf_ros.bundle.manifest import CriticCard, Manifest
    from qgf_ros.bundle.store import write_bundle
    from qgf_ros.learning.algorithms.networks import CriticNetwork, VelocityNetwork
    from qgf_ros.learning.export.export import export_networks
    from qgf_sim.worlds.families import action_fields, observation_fields

    name, horizon = "cube-single", 5
    observation = observation_fields(name, goal_conditioned=True, goal_fields=goal_fields)
    action = action_fields()
    sizes = sum(field.size for field in observation), horizon * len(action)
    generator = torch.Generator().manual_seed(7)
    velocity = VelocityNetwork(*sizes, (32, 32), generator)
    critic = CriticNetwork(1, 2, *sizes, (32, 32), generator)
    files, parity = export_networks(velocity, critic, ["goal"], sizes)
    manifest = Manifest(
        name=out.name,
        environment=name,
        observation=observation,
        goal="goal",
        goal_fields=tuple(goal_fields),
        action=action,
        horizon=horizon,
        execution_horizon=2,
        control_rate=20.0,
        critics={"goal": CriticCard(task="any goal", discount=0.99, ensemble_size=2)},
        parity=parity,
    )
    write_bundle(out, manifest, files)
    return out
