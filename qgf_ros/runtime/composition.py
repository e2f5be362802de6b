"""One tick of Algorithm 1 as one ONNX graph, composed from the weights of a bundle's primitives.

The graph carries guided rows G and plain rows R together through T denoising steps and values the guided actions at the
end. It computes what `guidance.sampler` does with the estimator ``qgf``, in fewer and larger operators
(`runtime.passes`); the observation's part of each first layer is computed once a tick, the time's part once for all
ticks. It comes in two forms:

- For the CPU, `plain_flow` and `guided_flow`: a `Scan` over the steps, in which only rows whose minimum a member is go
  through its backward pass.
- For a GPU, `laid_out_flow`: one graph for one T without control flow and without shapes that depend on values, which
  a GPU can capture once and replay. Every row is guided, and every member goes backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from onnx import TensorProto

from qgf_ros.bundle.layers import Layers
from qgf_ros.runtime.graph import Graph, tensor
from qgf_ros.runtime.passes import Ensemble, Network
from qgf_ros.runtime.precision import Precision


def plain_flow(velocity: Layers, observation_size: int, chunk_size: int, precision: Precision = "fp32") -> bytes:
    """Build the graph of the unguided flow.

    Inputs, float32: ``s`` [R, S], ``noise`` [R, C], ``time`` [T, 1, O] (what the time adds to the velocity's first
    layer at each step), ``dt`` [] (1/T). Output: ``action`` [R, C] before the clip.

    Args:
        velocity: Layers of the velocity field, centred.
        observation_size: S.
        chunk_size: C.
        precision: Of the weights.
    """
    g = Graph()
    flow = Network(velocity, "velocity", observation_size, chunk_size, precision)
    first = flow.observe(g, "s")
    step = Graph(g)
    after = _plain_step(step, flow, first, "a", "time_k")
    (action,) = g.scan(step, [("noise", "a", after)], [("time", "time_k")])
    return g.model(_flow_inputs(velocity, observation_size, chunk_size), {"action": action})


def guided_flow(
    velocity: Layers,
    critic: Sequence[Layers],
    aggregation: str,
    observation_size: int,
    chunk_size: int,
    precision: Precision = "fp32",
) -> bytes:
    """Build the graph of the guided flow.

    Inputs beside those of `plain_flow`, whose rows are the G guided ones, then the R plain ones: ``split`` int64 [2]
    (G and R), ``remaining`` [T, 1, 1] (1 - t), ``weight`` [T, G, 1] (guidance weight times schedule), ``mask`` [C],
    ``max_norm`` [] and ``disagreement`` [].

    Outputs: ``action`` [G + R, C] before the clip, ``norm`` [G, 1], the sum of the gradients' norms over the steps, and
    ``q`` [G, E] of the clipped guided actions.

    Args:
        velocity: Layers of the velocity field, centred.
        critic: Layers of each member, centred.
        aggregation: As in the manifest.
        observation_size: S.
        chunk_size: C.
        precision: Of the weights.

    Raises:
        UnknownFormError: The backward pass is not written for such a critic.
    """
    g = Graph()
    flow = Network(velocity, "velocity", observation_size, chunk_size, precision)
    ensemble = Ensemble(critic, aggregation, observation_size, chunk_size, precision)
    first = flow.observe(g, "s")
    ensemble.observe(g, _split(g, "s")[0])
    nothing, no_pull = _split(g, g.add("Mul", "noise", g.scalar(0.0)))
    guided = _Guided(flow, ensemble, ensemble.gradient, _split, first, no_pull)

    step = Graph(g)
    after, total = guided.step(step, "a", "total", "time_k", "remaining_k", "weight_k")
    action, norm = g.scan(
        step,
        [("noise", "a", after), (g.add("ReduceSum", nothing, g.integers(1)), "total", total)],
        [("time", "time_k"), ("remaining", "remaining_k"), ("weight", "weight_k")],
    )
    q, _ = ensemble.forward(g, _clip(g, _split(g, action)[0]))
    split = tensor("split", [2], TensorProto.INT64)
    inputs = [*_flow_inputs(velocity, observation_size, chunk_size), split, *_guidance_inputs("G", chunk_size)]
    return g.model(inputs, {"action": action, "norm": norm, "q": q})


def laid_out_flow(
    velocity: Layers,
    critic: Sequence[Layers] | None,
    aggregation: str,
    observation_size: int,
    chunk_size: int,
    steps: int,
) -> bytes:
    """Build the graph of the guided flow of R rows and, beside each, the unguided one; without a critic the latter alone.

    Inputs are those of `guided_flow`, R being G, but ``s`` [R, S] and ``noise`` [R, C] come once, and there is no
    ``split``; outputs are the same. Without a critic, inputs and output are those of `plain_flow`.

    Args:
        velocity: Layers of the velocity field, centred.
        critic: Layers of each member, centred; None for no guidance.
        aggregation: As in the manifest.
        observation_size: S.
        chunk_size: C.
        steps: T.

    Raises:
        UnknownFormError: The backward pass is not written for such a critic.
    """
    g = Graph()
    flow = Network(velocity, "velocity", observation_size, chunk_size, "fp32")
    inputs = _flow_inputs(velocity, observation_size, chunk_size)
    times = _slices(g, "time", steps)
    if critic is None:
        first, a = flow.observe(g, "s"), "noise"
        for time in times:
            a = _plain_step(g, flow, first, a, time)
        return g.model(inputs, {"action": a})
    ensemble = Ensemble(critic, aggregation, observation_size, chunk_size, "fp32")
    ensemble.observe(g, "s")
    first = flow.observe(g, "s")
    nothing = g.add("Mul", "noise", g.scalar(0.0))
    guided = _Guided(flow, ensemble, ensemble.whole_gradient, _halve, g.add("Concat", first, first, axis=0), nothing)
    a, total = g.add("Concat", "noise", "noise", axis=0), g.add("ReduceSum", nothing, g.integers(1))
    for slices in zip(times, _slices(g, "remaining", steps), _slices(g, "weight", steps)):
        a, total = guided.step(g, a, total, *slices)
    q, _ = ensemble.forward(g, _clip(g, _halve(g, a)[0]))
    return g.model([*inputs, *_guidance_inputs("M", chunk_size)], {"action": a, "norm": total, "q": q})


class _Guided(NamedTuple):
    """What one denoising step of guided and plain rows needs.

    Attributes:
        flow, ensemble: The networks.
        gradient: Appends dq/da of the guided rows, given what the forward passes returned.
        apart: Returns the guided and the plain rows of a tensor.
        first: What the observation adds to the velocity's first layer, of all rows.
        no_pull: Zeros, of the plain rows [R, C].
    """

    flow: Network
    ensemble: Ensemble
    gradient: Callable[[Graph, str, Sequence[str]], str]
    apart: Callable[[Graph, str], list[str]]
    first: str
    no_pull: str

    def step(self, g: Graph, a: str, total: str, time: str, remaining: str, weight: str) -> tuple[str, str]:
        """Append one step; return the next actions, of all rows, and the next sum of the gradients' norms."""
        v, _ = self.flow.forward(g, a, g.add("Add", self.first, time))
        ahead = g.add("Add", self.apart(g, a)[0], g.add("Mul", self.apart(g, v)[0], remaining))
        q, z = self.ensemble.forward(g, _clip(g, ahead))
        gradient = self.gradient(g, q, z)
        pull = g.add("Concat", _pull(g, gradient, q, weight), self.no_pull, axis=0)
        after = g.add("Add", a, g.add("Mul", g.add("Add", v, pull), "dt"))
        return after, g.add("Add", total, g.add("ReduceL2", gradient, g.integers(1)))


def _plain_step(g: Graph, flow: Network, first: str, a: str, time: str) -> str:
    v, _ = flow.forward(g, a, g.add("Add", first, time))
    return g.add("Add", a, g.add("Mul", v, "dt"))


def _flow_inputs(velocity: Layers, observation_size: int, chunk_size: int) -> list[object]:
    return [
        tensor("s", ["M", observation_size]),
        tensor("noise", ["M", chunk_size]),
        tensor("time", ["T", 1, len(velocity[0].bias)]),
        tensor("dt", []),
    ]


def _guidance_inputs(rows: str, chunk_size: int) -> list[object]:
    return [
        tensor("remaining", ["T", 1, 1]),
        tensor("weight", ["T", rows, 1]),
        tensor("mask", [chunk_size]),
        tensor("max_norm", []),
        tensor("disagreement", []),
    ]


def _split(g: Graph, x: str) -> list[str]:
    """Return the guided and the plain rows of a tensor, as many of each as the input ``split`` says."""
    return g.split("Split", 2, x, "split", axis=0)


def _halve(g: Graph, x: str) -> list[str]:
    """Return the guided and the plain rows of a tensor, of which there are as many."""
    return g.split("Split", 2, x, axis=0, num_outputs=2)


def _slices(g: Graph, x: str, steps: int) -> list[str]:
    """Return the slices of a tensor along its first axis."""
    parts = g.split("Split", steps, x, axis=0, num_outputs=steps) if steps > 1 else [x]
    return [g.add("Squeeze", part, g.integers(0)) for part in parts]


def _clip(g: Graph, x: str) -> str:
    return g.add("Clip", x, g.scalar(-1.0), g.scalar(1.0))


def _pull(g: Graph, gradient: str, q: str, weight: str) -> str:
    """Append what is added to the guided velocities [G, C]: `Guidance.pull`."""
    columns = g.integers(1)
    pull = g.add("Mul", gradient, "mask")
    norm = g.add("Max", g.add("ReduceL2", pull, columns), g.scalar(1e-30))
    weight = g.add("Mul", weight, g.add("Min", g.add("Div", "max_norm", norm), g.scalar(1.0)))
    spread = g.add("Sub", g.add("ReduceMax", q, columns), g.add("ReduceMin", q, columns))
    weight = g.add("Div", weight, g.add("Add", g.add("Div", spread, "disagreement"), g.scalar(1.0)))
    return g.add("Mul", pull, weight)
