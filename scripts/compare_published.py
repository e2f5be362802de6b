#!/usr/bin/env python3
"""Compare this package with the published QGF code, on the same weights, observations and noise.

    python scripts/compare_published.py --published CLONE --checkpoint params_25000.pkl --json FILE

The published code is imported from CLONE, a checkout of github.com/zhouzypaul/qgf, and needs what its requirements
name (JAX, flax, distrax, optax, ml_collections) beside this package with its `cpu` extra and onnx. It unpickles the
checkpoint: give it only files you trust. Two sets of networks are compared: those of --checkpoint, and those that the
published code initialises at random for chunks of five actions and saves in its own format.

Each method runs three times: as published (float32), here (float32, from an imported bundle), and in a float64
reference, `float64_reference.py`, which is written from the formulas alone. The published sampler draws its noise from a
seed; the same seed gives the same noise here. A difference is the largest over the components of an action, and a
summary is over actions. Where the smallest of the critics and the next are as close as rounding, the gradient of their
minimum is that of one or of the other, and no two programs agree: those actions are counted as near ties, and a summary
without them stands beside. At N = 4 the three may keep different candidates; those actions are counted too, with how
much worse, by the float64 critic, the kept candidate is than the best.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from float64_reference import Reference

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.guidance.shaping import Guidance
from qgf_ros.learning.data.contract import Contract
from qgf_ros.learning.published.import_checkpoint import import_checkpoint
from qgf_ros.learning.published.pickles import read_pickle
from qgf_ros.learning.published.published_checkpoint import PublishedNetworks, load_published
from qgf_ros.runtime.policy import Policy

METHODS = ("qgf", "qgf_jacobian", "noisy", "grad_step")
WEIGHTS = (0.0, 0.01, 0.1, 1.0)
CANDIDATES = 4
STEPS = 10
ASCENT_STEPS = 3
SEED = 20260617
#: Relative gap between the critics that counts as a tie: some ten units in the last place of float32.
NEAR_TIE = 1e-6


class ComparedNetworks:
    """One set of networks, in all three implementations.

    Args:
        name: What it is called in the report.
        path: Checkpoint ``params_STEP.pkl``.
        horizon: Actions per chunk.
        observations: float32 [B, S].
        folder: For the imported bundle.
    """

    def __init__(self, name: str, path: Path, horizon: int, observations: Any, folder: Path) -> None:
        self.name, self.path, self.horizon, self.observations = name, path, horizon, observations
        self.networks = load_published(path)
        self.reference = Reference(read_pickle(path)["agent"])
        chunk = self.networks.chunk_size
        import_checkpoint(path, folder, plain_contract(self.networks, horizon), critic="critic", task=name)
        self.policy = Policy.load(folder)
        self.key, self.noise = published_noise(len(observations) * CANDIDATES, chunk)
        self._agents: dict[Any, Any] = {}  # each is compiled once

    @cached_property
    def repeated(self) -> Any:
        """Each observation once per candidate."""
        return np.repeat(self.observations, CANDIDATES, axis=0)

    @cached_property
    def unguided(self) -> Any:
        """The actions of plain behaviour cloning, in float64."""
        return self.reference.sample(self.repeated, self.noise, "qgf", 0.0, STEPS)[0]

    def here(self, method: str, weight: float, candidates: int) -> Any:
        """Return this package's actions, of every candidate (1) or of the one kept (`CANDIDATES`)."""
        s = self.repeated if candidates == 1 else self.observations
        noise = self.noise.reshape(len(s), candidates, -1)
        guidance = Guidance(estimator=method, ascent_steps=ASCENT_STEPS)
        chunks = self.policy.act(s, noise, "critic", weight, guidance)
        if any(chunk.telemetry["critic_failed"] for chunk in chunks):
            raise SystemExit(f"{self.name}: the critic failed")
        return np.stack([chunk.actions.ravel() for chunk in chunks])

    def published(self, method: str, weight: float, candidates: int) -> Any:
        """Return the published code's actions."""
        step_size = weight if method == "grad_step" else 0.0
        weights = {} if method == "grad_step" else {"guidance_weight": weight}
        if (method, step_size) not in self._agents:
            agent = published_agent(self.networks, self.horizon, method, step_size, self.path)
            self._agents[method, step_size] = agent
        s = self.repeated if candidates == 1 else self.observations
        agent = self._agents[method, step_size]
        return np.asarray(agent.sample_actions(s, seed=self.key, rejection_sampling=candidates, **weights))

    def compare(self, method: str, weight: float) -> list[dict[str, Any]]:
        """Return one row of the report for N = 1 and one for best-of-N."""
        exact, gap = self.reference.sample(self.repeated, self.noise, method, weight, STEPS, ASCENT_STEPS)
        tied = gap < NEAR_TIE
        row = {"networks": self.name, "horizon": self.horizon, "method": method, "weight": weight}
        here, published = self.here(method, weight, 1), self.published(method, weight, 1)
        single = {**row, "n": 1, "moved_by_guidance": summary(exact, self.unguided)}
        single |= comparison(here, published, exact, tied)

        q = self.reference.critic(self.repeated, exact)[0].reshape(-1, CANDIDATES)
        candidates = exact.reshape(*q.shape, -1)
        best = np.take_along_axis(candidates, q.argmax(axis=1)[:, None, None], axis=1)[:, 0]
        here, published = self.here(method, weight, CANDIDATES), self.published(method, weight, CANDIDATES)
        several = {**row, "n": CANDIDATES, **comparison(here, published, best, tied.reshape(q.shape).any(axis=1))}
        for name, actions in (("here", here), ("published", published)):
            chosen = np.abs(candidates - actions[:, None]).max(axis=2).argmin(axis=1)
            loss = q.max(axis=1) - q[np.arange(len(q)), chosen]
            several[f"{name}_keeps_another"] = {
                "actions": int((loss > 0.0).sum()),
                "largest_loss_of_q": float(loss.max()),
            }
        return [single, several]


def comparison(here: Any, published: Any, exact: Any, tied: Any) -> dict[str, Any]:
    """Return the differences of each pair, of all actions and of those that met no near tie."""
    pairs = {
        "here_published": (here, published),
        "here_float64": (here, exact),
        "published_float64": (published, exact),
    }
    result: dict[str, Any] = {name: summary(*pair) for name, pair in pairs.items()}
    result["near_ties"] = int(tied.sum())
    if tied.any():
        result["away_from_ties"] = {name: summary(a[~tied], b[~tied]) for name, (a, b) in pairs.items()}
    return result


def summary(a: Any, b: Any) -> dict[str, float]:
    """Return the median and the largest difference of two sets of actions [N, C]."""
    rows = np.abs(a - b).max(axis=1)
    return {"median": float(np.median(rows)), "max": float(rows.max())}


def plain_contract(networks: PublishedNetworks, horizon: int) -> Contract:
    """Return a contract of the right sizes, about which nothing else is known."""
    observation = ObservationField(
        name="observation",
        topic="observation",
        message_type="std_msgs/msg/Float64MultiArray",
        extraction="data",
        size=networks.observation_size,
        unit="1",
    )
    count = networks.chunk_size // horizon
    action = [ActionField(name=f"a{i}", unit="1", scale=1.0, lower=-1.0, upper=1.0) for i in range(count)]
    return Contract((observation,), tuple(action), 20.0)


def published_noise(rows: int, size: int) -> tuple[Any, Any]:
    """Return a key and the noise that the published sampler draws from it."""
    import jax

    key = jax.random.PRNGKey(SEED)
    return key, np.asarray(jax.random.normal(key, (rows, size)))


def published_agent(
    networks: PublishedNetworks | None, horizon: int, method: str, step_size: float, path: Path | None, **sizes: int
) -> Any:
    """Return a published agent that samples by `method`, with the weights of `path`, or with those it was created with.

    Args:
        networks: Whose sizes to take; None for 3 x 256 with the observation and action sizes given.
        horizon: Actions per chunk.
        method: One of `METHODS`.
        step_size: Of grad_step, part of its configuration.
        path: Checkpoint, or None.
        sizes: observation, action.
    """
    from agents.grad_step import GradStepAgent
    from agents.grad_step import get_config as grad_step_config
    from agents.qgf import QGFAgent, get_config
    from utils.flax_utils import restore_agent

    config = grad_step_config() if method == "grad_step" else get_config()
    hidden: tuple[tuple[int, ...], ...] = ((256,) * 3, (256,) * 3)
    if networks is not None:
        hidden = tuple(tuple(len(l.bias) for l in layers[:-1]) for layers in (networks.policy, networks.value))
        config.use_layer_norm = int(any(layer.scale is not None for layer in networks.policy))
        config.value_network_kwargs.layer_norm = any(layer.scale is not None for layer in networks.value)
        config.num_qs = len(networks.target_critic)
        sizes = {"observation": networks.observation_size, "action": networks.chunk_size // horizon}
    config.actor_hidden_dims, config.value_network_kwargs.hidden_dims = hidden
    config.horizon_length, config.action_chunking = horizon, horizon > 1
    config.denoise_steps = STEPS
    if method == "grad_step":
        config.qgrad_step_size, config.qgrad_steps = step_size, ASCENT_STEPS
    else:
        config.denoised_action_approx = "noisy" if method == "noisy" else "one_euler_step_approx"
        config.apply_jacobian = method == "qgf_jacobian"
    agent_class = GradStepAgent if method == "grad_step" else QGFAgent
    examples = (np.zeros((1, sizes[name]), np.float32) for name in ("observation", "action"))
    agent = agent_class.create(0, *examples, config)
    return agent if path is None else restore_agent(agent, str(path.parent), path.stem.removeprefix("params_"))


def what_does_not_run() -> dict[str, str]:
    """Return what published methods say that cannot be compared, because they raise."""
    from agents.bptt import BPTTAgent
    from agents.bptt import get_config as bptt_config
    from agents.robust_q import RobustQAgent
    from agents.robust_q import get_config as robust_q_config

    s, a, one = np.zeros((1, 4), np.float32), np.zeros((1, 2), np.float32), np.ones((1, 1), np.float32)
    batch = {"observations": s, "actions": a[:, None], "next_observations": s[:, None]}
    batch |= {"rewards": one, "masks": one, "valid": one}
    robust_q = RobustQAgent.create(0, s, a, robust_q_config())
    calls = {
        "bptt.sample_actions": lambda: BPTTAgent.create(0, s, a, bptt_config()).sample_actions(s, seed=robust_q.rng),
        "robust_q.sample_actions": lambda: robust_q.sample_actions(s, seed=robust_q.rng),
        "robust_q.update": lambda: robust_q.update(batch),
    }
    said = {}
    for name, call in calls.items():
        try:
            call()
            said[name] = "runs"
        except Exception as error:  # whatever it is, is the answer
            said[name] = f"{type(error).__name__}: {error}"
    return said


def main() -> None:
    """Compare, print a line per row, write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True, help="checkout of the published code")
    parser.add_argument("--checkpoint", type=Path, required=True, help="params_STEP.pkl; it is unpickled")
    parser.add_argument("--horizon", type=int, default=1, help="of the checkpoint")
    parser.add_argument("--observations", type=Path, help="OGBench data set to draw them from; by default N(0, 1)")
    parser.add_argument("--rows", type=int, default=64, help="observations B")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    sys.path.insert(0, str(options.published))

    from utils.flax_utils import save_agent

    random = np.random.default_rng(SEED)
    size = load_published(options.checkpoint).observation_size
    observations = random.standard_normal((options.rows, size), dtype=np.float32)
    if options.observations:
        recorded = np.load(options.observations)["observations"]
        observations = recorded[np.sort(random.choice(len(recorded), options.rows, replace=False))].astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        chunks = Path(folder) / "params_0.pkl"
        save_agent(published_agent(None, 5, "qgf", 0.0, None, observation=46, action=5), folder, 0)
        noise = random.standard_normal((options.rows, 46), dtype=np.float32)
        rows = []
        for case in (
            ComparedNetworks("checkpoint", options.checkpoint, options.horizon, observations, Path(folder) / "first"),
            ComparedNetworks("random", chunks, 5, noise, Path(folder) / "second"),
        ):
            for method in METHODS:
                for weight in WEIGHTS:
                    for row in case.compare(method, weight):
                        print(json.dumps(row), flush=True)
                        rows.append(row)
    commit = subprocess.run(
        ["git", "-C", options.published, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    report = {
        "published_commit": commit.stdout.strip(),
        "checkpoint_sha256": hashlib.sha256(options.checkpoint.read_bytes()).hexdigest(),
        "observations": options.observations.name if options.observations else "N(0, 1)",
        "observations_per_row": options.rows,
        "denoising_steps": STEPS,
        "ascent_steps": ASCENT_STEPS,
        "seed": SEED,
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "numpy", "onnxruntime", "qgf_ros")},
        "published_methods_that_raise": what_does_not_run(),
        "rows": rows,
    }
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
