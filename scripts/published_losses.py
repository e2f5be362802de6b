"""Which published agent is compared with which algorithm, and how it runs so that what it draws is known.

`compare_published_losses.py` uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np

ROWS, STEPS = 64, 10
CRITICS = {"target": "target_critic", "critic": "critic", "value": "value"}
TD_CRITICS = {"target": "target_critic", "critic": "critic"}
IQL_LOSSES = {"critic": "critic_loss", "value": "value_loss"}
Draws = list[Any]


@dataclass(frozen=True)
class Comparison:
    """One agent beside one algorithm.

    Attributes:
        method: The algorithm here.
        kind: What of it is compared, for people.
        agent: Module and class of the published agent.
        published, options: Their configurations, where they differ from the defaults.
        networks: The published name of each of the algorithm's networks.
        losses: The published name of each loss that the algorithm reports; or how it follows from what is reported there.
        draws: The algorithm's draws, of what the published code drew, in its order.
        departs: Whether the published code computes something else on purpose of this row.
    """

    method: str
    kind: str
    agent: tuple[str, str]
    published: Mapping[str, Any]
    options: Mapping[str, Any]
    networks: Mapping[str, str]
    losses: Mapping[str, str | Callable[[Mapping[str, Any]], Any]]
    draws: Callable[[Draws], dict[str, Any]]
    departs: bool = field(default=False)


def grid(drawn: Draws) -> dict[str, Any]:
    """Noise, and a flow time of the grid, divided in float32 as there."""
    noise, number = drawn
    return {"noise": noise, "t": number.astype(np.float32) / np.float32(STEPS)}


def next_noise(drawn: Any) -> Any:
    """Noises of the actions after the chunk [M, N, C], of [N, M, C] or [N, C]."""
    return drawn.reshape(ROWS, -1, drawn.shape[-1]).swapaxes(0, 1)


def fql(drawn: Draws) -> dict[str, Any]:
    """The last draw of the published code is for a metric; an action after the chunk is drawn before all."""
    *before, noise, t, z, _ = drawn
    return {"noise": noise, "t": t[:, 0], "z": z, **({"next_noise": next_noise(before[0])} if before else {})}


def qam(drawn: Draws) -> dict[str, Any]:
    """The noise of the last step of a path is drawn there, and not used."""
    *before, noise, t, start = drawn[:-STEPS]
    path = {"start": start, "steps_noise": np.stack(drawn[-STEPS:-1])}
    return {"noise": noise, "t": t[:, 0], **path, **({"next_noise": next_noise(before[0])} if before else {})}


def dac(drawn: Draws) -> dict[str, Any]:
    """An action after the chunk, drawn before all, has a noise per step; the last is not used."""
    *before, k, noise = drawn
    after = {"next_noise": before[0][None], "next_steps_noise": np.stack(before[1:-1])} if before else {}
    return {"noise": noise, "k": k, **after}


def comparisons() -> Iterator[Comparison]:
    """Yield every comparison."""
    actor = {"actor": "policy", **CRITICS}
    flow = {"flow": "bc_loss", **IQL_LOSSES}
    yield Comparison("iql_flow", "IQL", ("qgf", "QGFAgent"), {}, {}, {"velocity": "policy", **CRITICS}, flow, grid)
    edp_losses = {**flow, "actor_q": "actor_q"}
    weight = {"bc_weight": 3.0}
    yield Comparison("edp", "IQL", ("edp", "EDPAgent"), weight, weight, actor, edp_losses, grid)
    chosen = {"chosen_flow": "actor_loss_positive", "flow": "actor_loss_uncond", "chosen": "actor_positive_ratio"}
    cfgrl_networks = {"actor": "actor", **CRITICS}
    yield Comparison("cfgrl", "IQL", ("cfgrl", "CFGRLAgent"), {}, {}, cfgrl_networks, {**chosen, **IQL_LOSSES}, grid)

    fql_losses = {"flow": "bc_flow_loss", "distillation": "distill_loss", "climbing": "q_loss"}
    fql_networks = {"velocity": "actor_bc_flow", "actor": "actor_onestep_flow"}
    for kind, normalised in (("IQL", False), ("IQL, --normalise-q", True), ("--backup actor", False)):
        td = kind == "--backup actor"
        published = {"alpha": 3.0, "normalize_q_loss": normalised, "critic_loss_type": "ddpg" if td else "iql"}
        options = {"distillation_weight": 3.0, "normalise_q": normalised}
        options |= {"backup": "actor", "aggregate": "mean"} if td else {}
        names = {**fql_networks, **(TD_CRITICS if td else CRITICS)}
        losses = {**fql_losses, **({"critic": "critic_loss"} if td else IQL_LOSSES)}
        yield Comparison("fql", kind, ("fql", "FQLAgent"), {**published, "q_agg": "mean"}, options, names, losses, fql)

    qam_losses = {"flow": "flow_loss", "adjoint": "adj_loss"}
    qam_networks = {"velocity": "actor_slow", "base": "target_actor_slow", "fast": "actor_fast"}
    yield Comparison(
        "qam",
        "IQL",
        ("qam", "QAMAgent"),
        {"critic_loss_type": "iql", "inv_temp": 1.0},
        {"inverse_temperature": 1.0},
        {**qam_networks, **CRITICS},
        {**qam_losses, **IQL_LOSSES},
        qam,
    )
    # The published sampler takes the imitating flow where the temperature is 0, which is that of the rows but one.
    for backup, temperature, candidates in (("actor", 1.0, 1), ("sarsa", 0.0, 1), ("best_of_n", 0.0, 4)):
        yield Comparison(
            "qam",
            f"--backup {backup}",
            ("qam", "QAMAgent"),
            {"inv_temp": temperature, "num_qs": 10, "rho": 0.5, "best_of_n": candidates},
            {
                "inverse_temperature": temperature,
                "backup": backup,
                "candidates": candidates,
                "ensemble": 10,
                "aggregate": "mean - 0.5 std",
            },
            {**qam_networks, **TD_CRITICS},
            {**qam_losses, "critic": "critic_loss"},
            qam,
        )

    diffusion = {"diffusion": lambda info: 3.0 * info["bc_loss"] + info["actor_loss"]}
    of_dac: dict[str, Any] = {"alpha": 3.0, "actor_loss_type": "dac", "critic_loss_type": "iql", "num_qs": 2}
    names = {"predictor": "actor", **CRITICS}
    agent = ("dcgql", "DCGQLAgent")
    yield Comparison("dac", "IQL", agent, of_dac, {"bc_weight": 3.0}, names, {**diffusion, **IQL_LOSSES}, dac)
    of_qsm = {**of_dac, "actor_loss_type": "qsm", "inv_temp": 0.1}
    options = {"bc_weight": 3.0, "inverse_temperature": 0.1}
    yield Comparison("qsm", "IQL", agent, of_qsm, options, names, {**diffusion, **IQL_LOSSES}, dac)
    for mended in (True, False):
        yield Comparison(
            "dac",
            "--backup actor" if mended else "--backup actor, published sampler",
            agent,
            {**of_dac, "critic_loss_type": "ddpg", "num_qs": 10, "rho": 0.5, "clip_sampler_before": mended},
            {"bc_weight": 3.0, "backup": "actor", "ensemble": 10, "aggregate": "mean - 0.5 std"},
            {"predictor": "actor", **TD_CRITICS},
            {**diffusion, "critic": "critic_loss"},
            dac,
            departs=not mended,
        )


def not_compiled() -> None:
    """Import the published code so that it runs operation by operation, where what it draws is a number that can be read."""
    import distrax  # noqa: F401  (which stays compiled, as do flax and optax)
    import flax.linen  # noqa: F401
    import jax
    import optax  # noqa: F401

    def plain(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        return function

    with patch.object(jax, "jit", plain):
        for module in dict.fromkeys(comparison.agent[0] for comparison in comparisons()):
            import_module(f"agents.{module}")


def loop(step: Callable[..., Any], state: Any, steps: Any, **options: Any) -> tuple[Any, Any]:
    """Do what `jax.lax.scan` does, without compiling; nothing is collected on the way."""
    collected = None
    for x in steps:
        state, collected = step(state, x)
    return state, collected


@contextmanager
def recorded(drawn: Draws) -> Iterator[None]:
    """Record what is drawn with jax.random, in order."""
    import jax

    def recording(original: Callable[..., Any]) -> Callable[..., Any]:
        def draw(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            drawn.append(np.array(result))
            return result

        return draw

    names = ("normal", "uniform", "randint")
    recordings: dict[str, Any] = {name: recording(getattr(jax.random, name)) for name in names}
    with patch.multiple(jax.random, **recordings), patch.object(jax.lax, "scan", loop):
        yield
