"""What the actors learn from data N(0, 0.3^2) and values a and -a: each goes its own way, as far as its loss says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.learning.algorithms.catalogue import algorithm_named, configured  # noqa: E402
from qgf_ros.learning.algorithms.sampling import euler  # noqa: E402
from qgf_ros.learning.data.chunks import ChunkData  # noqa: E402
from qgf_ros.learning.data.dataset import Dataset  # noqa: E402
from qgf_ros.learning.trainer import Trainer, TrainingConfig, new_algorithm  # noqa: E402

ROWS, DEVIATION = 4000, 0.3
CONFIG = TrainingConfig(updates=500, batch_size=128, learning_rate=3e-3, final_learning_rate=3e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "options", "least", "most"),
    [
        ("fql", {"distillation_weight": 2.0}, 0.2, 0.3),  # mu = the flow's action + 1 / (2 alpha)
        ("qam", {"inverse_temperature": 5.0}, 0.15, 0.5),  # lambda 0.3^2, of which the bounds take a part
        ("dac", {"bc_weight": 2.0}, 0.08, 0.25),
        ("qsm", {"bc_weight": 10.0, "inverse_temperature": 1.0}, 0.04, 0.2),
    ],
)
def test_an_actor_goes_where_its_critic_points(
    algorithm: str, options: dict[str, Any], least: float, most: float
) -> None:
    random, device = np.random.default_rng(0), torch.device("cpu")
    action = np.clip(random.normal(0.0, DEVIATION, (ROWS, 1)), -1.0, 1.0).astype(np.float32)
    dataset = Dataset(np.ones((ROWS, 1), np.float32), action, np.arange(ROWS) == ROWS - 1, {})
    nothing_follows = np.zeros(ROWS, np.float32)
    rewards = {"up": (action[:, 0], nothing_follows), "down": (-action[:, 0], nothing_follows)}
    data = ChunkData.build(dataset, rewards, 1, CONFIG.discount, device)
    own = configured(algorithm, {"hidden": (32, 32), "aggregate": "mean", **options})
    trained = new_algorithm(CONFIG, algorithm_named(algorithm), own, tuple(rewards), data)
    subject = Trainer(CONFIG, trained, data, device)
    for _ in range(CONFIG.updates):
        subject.update()
    noise, s = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0)), torch.ones(2000, 1)
    means = {}
    for name, policy in trained.policies().items():
        with torch.no_grad():
            means[name] = euler(policy.velocity, s, noise, policy.denoising_steps).clamp(-1.0, 1.0).mean().item()
    assert least < means["up"] < most and least < -means["down"] < most, means
    assert means.get("flow", 0.0) == pytest.approx(0.0, abs=0.05)
