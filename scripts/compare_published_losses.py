#!/usr/bin/env python3
"""Compare the losses of this package with those of the published QGF code, on the same weights, batch and random numbers.

    python scripts/compare_published_losses.py --published CLONE --json FILE

The published code is imported from CLONE, a checkout of github.com/zhouzypaul/qgf, and needs what its requirements name
(JAX, flax, distrax, optax, ml_collections) beside this package with its `cpu` extra. Each published agent is created at
random, every one of its weights is moved by a little (so that no bias is 0, and no target is its critic), and the
algorithm here takes them over. What the published code draws at random is recorded while it computes its losses, and
given to the algorithm here. Compared are each loss, and the gradient of their sum by the weights of each network; a
difference is relative, that of a gradient the norm of the difference over the norm.

Each comparison runs twice: `float32`, as both programs run; and `float64`, where rounding is no excuse. There the flow
time enters the networks of both as the published code prepares it: in float32, and with the frequencies that it rounds
otherwise (`learning.published.published_checkpoint`). The weights of the expectile are float32 numbers here even then.

Where the published code departs from its own papers the departure is undone or named: all chunks of the batch are valid
and success is a mask; the published ancestral sampler of DAC, which by default puts the estimate of the clean action in
the place of the posterior's mean, runs with `clip_sampler_before`, and its default is compared in a row of its own,
which must differ. Gradients are compared before they are clipped. RobustQ does not run there (`compare_published.py`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from published_losses import ROWS, STEPS, Comparison, Draws, comparisons, not_compiled, recorded
from torch import Tensor, nn

from qgf_ros.learning.algorithms import cfgrl, networks
from qgf_ros.learning.algorithms.algorithm import Problem
from qgf_ros.learning.algorithms.catalogue import ALGORITHMS
from qgf_ros.learning.algorithms.options import OPTIONS
from qgf_ros.learning.data.chunks import Batch

OBSERVATION, ACTION, HORIZON, DISCOUNT = 40, 5, 5, 0.99
HIDDEN = (256, 256, 256)
SEED = 20260617
#: By how much the weights of a new published agent are moved, a standard deviation.
MOVED = 0.02


class PublishedAgent:
    """A published agent with moved weights.

    Args:
        comparison: Which.
        dtype: Of its weights.
    """

    def __init__(self, comparison: Comparison, dtype: Any) -> None:
        import jax

        module = import_module(f"agents.{comparison.agent[0]}")
        config = module.get_config()
        sizes = {"horizon_length": HORIZON, "action_chunking": True, "discount": DISCOUNT, "expectile": 0.9}
        widths = {"actor_hidden_dims": HIDDEN, "value_hidden_dims": HIDDEN}
        steps = {name: STEPS for name in ("denoise_steps", "flow_steps", "diffusion_steps")}
        for name, value in {**sizes, **widths, **steps, **comparison.published}.items():
            if name in config:
                config[name] = value
        if "value_network_kwargs" in config:
            config.value_network_kwargs.hidden_dims = HIDDEN
        agent_class = getattr(module, comparison.agent[1])
        examples = (np.zeros((1, size), np.float32) for size in (OBSERVATION, ACTION))
        agent = agent_class.create(SEED, *examples, config)
        random = np.random.default_rng(SEED)

        def moved(leaf: Any) -> Any:
            array = np.asarray(leaf)
            return jax.numpy.asarray(array + MOVED * random.standard_normal(array.shape).astype(np.float32), dtype)

        def of(state: Any) -> Any:
            return state.replace(params=jax.tree_util.tree_map(moved, state.params))

        self._together = hasattr(agent, "network")
        names = ("network",) if self._together else (*comparison.networks.values(),)
        self.agent = agent.replace(**{name: of(getattr(agent, name)) for name in names})

    def networks(self) -> dict[str, Any]:
        """Return the weights of each network, by name."""
        if self._together:
            return {name.removeprefix("modules_"): part for name, part in self.agent.network.params.items()}
        names = ("policy", "actor", "critic", "target_critic", "value")
        return {name: getattr(self.agent, name).params for name in names if hasattr(self.agent, name)}

    def losses(self, batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what is reported, and the gradient by the weights of each network."""
        import jax

        key = jax.random.PRNGKey(SEED)
        if self._together:
            whole = jax.grad(lambda params: self.agent.total_loss(batch, params, rng=key), has_aux=True)
            gradients, info = whole(self.agent.network.params)
            short = {name.rpartition("/")[2]: value for name, value in info.items()}
            return short, {name.removeprefix("modules_"): part for name, part in gradients.items()}
        (policy,) = {"policy", "actor"} & set(self.networks())
        calls: dict[str, dict[str, Any]] = {policy: {"rng": key}, "critic": {}, "value": {}}
        reported: dict[str, Any] = {}
        by_network: dict[str, Any] = {}
        for name, drawn in calls.items():
            one = jax.grad(partial(getattr(self.agent, f"{name}_loss"), batch, **drawn), has_aux=True)
            by_network[name], info = one(self.networks()[name])
            reported |= info
        return reported, by_network


def tensors(network: nn.Module, params: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return published weights, or their gradient, under the names of a network here, and in its shapes."""
    found = {}
    parts = dict(params.get("value_net", params))
    if "FourierFeatures_0" in parts:
        found["frequencies"] = parts["FourierFeatures_0"]["kernel"]
    if "Embed_0" in parts:
        found["conditions"] = parts["Embed_0"]["embedding"]
    several = "MLP_1" in parts
    stacks = {"step_mlp": parts["MLP_0"], "mlp": parts["MLP_1"]} if several else {"mlp": parts.get("MLP_0", parts)}
    for name, stack in stacks.items():
        layers = [stack[f"Dense_{i}"] for i in range(sum(key.startswith("Dense") for key in stack))]
        layers += [parts["Dense_0"]] if "MLP_0" in parts and not several else []
        for i, layer in enumerate(layers):
            found |= {f"{name}.weights.{i}": layer["kernel"], f"{name}.biases.{i}": layer["bias"]}
            if f"LayerNorm_{i}" in stack:
                norm = stack[f"LayerNorm_{i}"]
                found |= {f"{name}.scales.{i}": norm["scale"], f"{name}.shifts.{i}": norm["bias"]}
    own = network.state_dict()
    if several:  # the inputs there are a, s and the step's features, here s, a and these
        kernel, first = np.array(found["mlp.weights.0"]), ACTION * HORIZON
        seen = np.r_[first : first + OBSERVATION, :first, first + OBSERVATION : len(kernel)]
        found["mlp.weights.0"] = kernel[seen]
    if own.keys() != found.keys():
        raise SystemExit(f"the networks differ in {', '.join(sorted(own.keys() ^ found.keys()))}")
    return {name: torch.from_numpy(np.array(found[name])).view(own[name].shape) for name in own}


@contextmanager
def published_time() -> Iterator[None]:
    """Let flow times enter the networks here as the published code prepares them."""
    from utils.networks import embed_time  # type: ignore[import-not-found]

    def embedded(t: Tensor, sinusoidal: bool = True) -> Tensor:
        kind = "sinusoidal" if sinusoidal else "raw"
        return torch.from_numpy(np.array(embed_time(t.numpy(), kind))).to(t)

    with patch.object(networks, "_time", embedded), patch.object(cfgrl, "time_embedding", embedded):
        yield


def new_batch(dtype: Any) -> dict[str, Any]:
    """Return a batch as the published code has them, its returns and masks those of the whole chunk."""
    random = np.random.default_rng(SEED + 1)
    rewards = -5.0 * random.random((ROWS, HORIZON))
    batch = {
        "observations": random.standard_normal((ROWS, OBSERVATION)),
        "actions": np.tanh(random.standard_normal((ROWS, HORIZON, ACTION))),
        "next_observations": random.standard_normal((ROWS, HORIZON, OBSERVATION)),
        "rewards": rewards,
        "masks": np.repeat(random.random((ROWS, 1)) > 0.2, HORIZON, axis=1),
        "valid": np.ones((ROWS, HORIZON)),
    }
    return {name: value.astype(np.float32).astype(dtype) for name, value in batch.items()}


def batch_here(batch: Mapping[str, Any], draws: Mapping[str, Any], dtype: torch.dtype) -> Batch:
    """Return the same batch as it is here."""

    def tensor(array: Any) -> Tensor:
        value = torch.from_numpy(np.array(array))
        return value.to(dtype) if value.is_floating_point() else value

    s = tensor(batch["observations"])
    return Batch(
        policy_s=s,
        s=s,
        action=tensor(batch["actions"]).flatten(1),
        next_s=tensor(batch["next_observations"][:, -1]),
        returns=tensor(batch["rewards"][:, -1])[None],
        bootstraps=DISCOUNT**HORIZON * tensor(batch["masks"][:, -1])[None],
        draws={name: tensor(value) for name, value in draws.items()},
    )


def relative(here: Any, published: Any) -> float:
    """Return the norm of a difference over the norm of what was published."""
    a, b = (np.concatenate([np.ravel(part).astype(np.float64) for part in parts]) for parts in (here, published))
    size = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / size if size else float(np.linalg.norm(a))


def compare(comparison: Comparison, double: bool) -> dict[str, Any]:
    """Return one row of the report."""
    import jax

    dtype = np.float64 if double else np.float32
    jax.config.update("jax_enable_x64", double)
    published, batch, drawn = PublishedAgent(comparison, dtype), new_batch(dtype), Draws()
    options = OPTIONS[comparison.method](hidden=HIDDEN, denoising_steps=STEPS, **comparison.options)  # type: ignore[call-arg]
    problem = Problem(("task",), OBSERVATION, ACTION * HORIZON)
    algorithm = ALGORITHMS[comparison.method](options, problem, torch.Generator())
    algorithm.to(torch.float64 if double else torch.float32)
    own = {name: getattr(algorithm, name) for name in comparison.networks}
    for name, network in own.items():
        network.load_state_dict(tensors(network, published.networks()[comparison.networks[name]]))
    with recorded(drawn):
        said, gradients = published.losses(batch)
    here = batch_here(batch, comparison.draws(drawn), torch.float64 if double else torch.float32)
    if double:
        with published_time():
            losses = algorithm.losses(here)
    else:
        losses = algorithm.losses(here)
    losses.total.backward()  # type: ignore[no-untyped-call]
    row: dict[str, Any] = {"method": comparison.method, "kind": comparison.kind, "departs": comparison.departs}
    row |= {"precision": np.dtype(dtype).name, "losses": {}, "gradients": {}}
    for name, there in comparison.losses.items():
        pair = float(losses.reported[name].detach()), float(there(said) if callable(there) else said[there])
        row["losses"][name] = {"here": pair[0], "published": pair[1], "difference": relative([pair[0]], [pair[1]])}
    for name, network in own.items():
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if trained:
            wanted = list(tensors(network, gradients[comparison.networks[name]]).values())
            mine = [
                parameter.grad for parameter in (dict(network.named_parameters())[key] for key in network.state_dict())
            ]
            row["gradients"][name] = {
                "norm_here": relative(mine, [0.0]),
                "norm_published": relative(wanted, [0.0]),
                "difference": relative(mine, wanted),
            }
    return row


def main() -> None:
    """Compare, print a line per row, write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True, help="checkout of the published code")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    sys.path.insert(0, str(options.published))
    not_compiled()
    rows = []
    for comparison in comparisons():
        for double in (False, True):
            rows.append(compare(comparison, double))
            print(json.dumps(rows[-1]), flush=True)
    head = ["git", "-C", options.published, "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
    setting = {"rows": ROWS, "observation": OBSERVATION, "action": ACTION, "horizon": HORIZON, "steps": STEPS}
    report = {
        "command": f"scripts/compare_published_losses.py --published {options.published.name} --json {options.json.name}",
        "published_commit": commit,
        "setting": {**setting, "hidden": HIDDEN, "discount": DISCOUNT, "seed": SEED, "moved": MOVED},
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "numpy", "torch", "qgf_ros")},
        "rows": rows,
    }
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
