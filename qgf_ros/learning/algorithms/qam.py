"""Q-learning with adjoint matching (QAM): a flow is trained to what guidance by exp(lambda Q) makes of the data's flow.

A straight flow v is also the memoryless stochastic process

    dX = (2 v(X, t) - X / t) dt + sigma(t) dW,   sigma(t)^2 = 2 (1 - t) / t

With h = 1/T steps of it, t_i = i/T, are regularised: sigma_i^2 = 2 (1 - t_i + h) / (t_i + h), and X / (t_i + h) in the
drift. The adjoint A begins as -lambda dQ/da at the end of a path and goes back along it through the data's flow alone:

    A_i = A_{i+1} + h (d/dx [2 v_base(x, t_i + h) - x / (t_i + h)] at X_i)^T A_{i+1}
    L_adj = mean_N sum_{i, C} ((2 / sigma_i) (v_fast - v_base)(X_i, t_i) + sigma_i A_i)^2

whose optimum is v_fast = v_base - sigma^2 A / 2. Paths, adjoints and v_base are constants. Sources: Adjoint Matching,
arXiv 2409.08861, and Q-learning with Adjoint Matching, arXiv 2601.14234.

Before a step the gradient of every network, and of every task of a stacked one, is clipped to norm 1 by itself. The
published code has one norm for several of them, in which L_adj, a sum over steps and components, drowns the others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, Losses, Problem
from qgf_ros.learning.algorithms.iql_flow import flow_loss
from qgf_ros.learning.algorithms.networks import VelocityNetwork, VelocityStack
from qgf_ros.learning.algorithms.options import QamConfig
from qgf_ros.learning.algorithms.sampling import (
    Ensemble,
    Field,
    action_gradient,
    clip_gradients,
    euler,
    for_each_task,
    moment,
)
from qgf_ros.learning.algorithms.td_critic import TdAlgorithm, imitating_policy, raw_draws
from qgf_ros.learning.data.chunks import Batch

#: Share of the imitating flow that enters the one that paths and adjoints go by, at each update.
BASE_RATE = 0.005
#: Norm to which gradients are clipped.
LARGEST_NORM = 1.0


class Qam(TdAlgorithm):
    """The imitating flow and its slow copy, shared by all tasks, a policy's flow for each, and the critics."""

    config_class = QamConfig

    def __init__(self, config: QamConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.config, self.problem = config, problem
        self._inverse_temperature = config.inverse_temperature
        sizes = problem.observation_size, problem.chunk_size, config.hidden, generator
        self.velocity = VelocityNetwork(*sizes, norm=False, sinusoidal=False)
        self.base = copy.deepcopy(self.velocity).requires_grad_(False)
        self.fast = VelocityStack(len(problem.critics), *sizes, norm=False, sinusoidal=False)
        self.add_critics(config, problem, generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return noise and flow times of the flow, those of the paths (`memoryless_path`), and of the actions after."""
        draws, chunk = raw_draws(size, self.problem.chunk_size, generator, device), self.problem.chunk_size
        start = torch.randn(size, chunk, generator=generator).to(device)
        steps_noise = torch.randn(self.config.denoising_steps - 1, size, chunk, generator=generator).to(device)
        path = {"start": start, "steps_noise": steps_noise}
        return {**draws, **path, **self.critic_draws(size, generator, device)}

    def behaviour(self, s: Tensor, a: Tensor, t: Tensor) -> Tensor:
        """See `TdAlgorithm`."""
        velocity: Tensor = self.velocity(s, a, t)
        return velocity

    def act(self, s: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """See `TdAlgorithm`."""
        noise = draws["next_noise"].expand(len(self.problem.critics), -1, -1)
        return euler(self.fast, s, noise, self.config.denoising_steps).clamp(-1.0, 1.0)

    def losses(self, batch: Batch) -> Losses:
        """Return the sum of the losses; those of critics and policies are reported per task."""
        critics = self.critic_losses(batch)
        flow = flow_loss(self.velocity, batch.policy_s, batch.action, batch.draws["noise"], batch.draws["t"])
        adjoint = self._adjoint_loss(batch.policy_s, batch.draws["start"], batch.draws["steps_noise"])
        reported = {"flow": flow, "adjoint": adjoint / len(self.problem.critics), **critics.reported}
        return Losses(flow + adjoint + critics.total, reported)

    def _adjoint_loss(self, s: Tensor, start: Tensor, steps_noise: Tensor) -> Tensor:
        """Return L_adj of the paths from noises [N, C], the same for all tasks."""
        tasks, steps, rows = len(self.problem.critics), self.config.denoising_steps, len(s)
        base = for_each_task(self.base)
        path = memoryless_path(self.fast, base, s, start.expand(tasks, -1, -1), steps_noise)
        final = final_adjoint(self.target, s, path[-1], self._inverse_temperature)
        adjoints = lean_adjoint(base, s, path, final)
        # All steps in one pass [K, T N, C].
        points = path[:-1].transpose(0, 1).flatten(1, 2)
        times = (torch.arange(steps, device=s.device) / steps).to(s).repeat_interleave(rows)
        states = s.repeat(steps, 1)
        with torch.no_grad():
            constant = base(states, points, times)
        fast = self.fast(states, points, times)
        fast, constant = (velocities.view(tasks, steps, rows, -1).transpose(0, 1) for velocities in (fast, constant))
        return adjoint_loss(fast, constant, adjoints)

    def before_step(self) -> None:
        """Clip the gradient of each network of each task, and move what follows: target critic and slow flow."""
        tasks = len(self.problem.critics)
        clip_gradients(self.velocity, 1, LARGEST_NORM)
        for network in self.children():
            if network is not self.velocity:
                clip_gradients(network, tasks, LARGEST_NORM)
        super().before_step()
        followed = [parameter.detach() for parameter in self.velocity.parameters()]
        torch._foreach_lerp_(list(self.base.parameters()), followed, BASE_RATE)

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return the policy of each task, by the name of its critic, and the imitating flow with all critics."""
        actors = self.policies_by_critic(
            self.fast.member,
            self.config.denoising_steps,
            "a velocity field trained for {name} alone; the task is in its weights, and it needs no guidance",
        )
        return {**actors, "flow": imitating_policy(self, self.velocity)}


def noise_scale(i: int, steps: int) -> float:
    """Return sigma_i of step i of T."""
    return math.sqrt(2.0 * (steps - i + 1) / (i + 1))


def memoryless_path(fast: Field, base: Field, s: Tensor, noise: Tensor, steps_noise: Tensor) -> Tensor:
    """Return paths of the memoryless process, constants.

    Args:
        fast: The policy's velocity field, which the process follows.
        base: The data's, which takes the last step, without noise.
        s: [N, S].
        noise: X_0 [K, N, C], or [N, C] for one task.
        steps_noise: Of every step but the last, standard normal: [T - 1, N, C], the same for all tasks.

    Returns:
        X_0 to X_T [T + 1, K, N, C], or [T + 1, N, C].
    """
    steps = len(steps_noise) + 1
    h = 1.0 / steps
    x, path = noise, [noise]
    with torch.no_grad():
        for i in range(steps - 1):
            drift = 2.0 * fast(s, x, moment(s, i * h)) - x / ((i + 1) * h)
            x = x + h * drift + math.sqrt(h) * noise_scale(i, steps) * steps_noise[i]
            path.append(x)
        path.append(x + h * base(s, x, moment(s, (steps - 1) * h)))
    return torch.stack(path)


def final_adjoint(critic: Ensemble, s: Tensor, end: Tensor, inverse_temperature: float) -> Tensor:
    """Return A_T = -lambda d/da mean_e Q_e(s, clip(a)) at the end of the paths [K, N, C]; 0 where the clip acts.

    Args:
        critic: The target critic, of K tasks.
        s: [N, S].
        end: X_T [K, N, C].
        inverse_temperature: lambda.
    """
    gradient: Tensor = action_gradient(critic, s, end.clamp(-1.0, 1.0))
    return -inverse_temperature * gradient * (end.abs() <= 1.0)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def lean_adjoint(base: Field, s: Tensor, path: Tensor, final: Tensor) -> Tensor:
    """Return the adjoints of every step of paths, constants.

    Args:
        base: The data's velocity field.
        s: [N, S].
        path: X_0 to X_T [T + 1, ..., N, C].
        final: A_T [..., N, C].

    Returns:
        A_0 to A_{T-1} [T, ..., N, C].
    """
    steps = len(path) - 1
    h = 1.0 / steps
    adjoint, adjoints = final, []
    for i in range(steps - 1, -1, -1):
        t = (i + 1) * h  # that of the next step, at the point of this one
        with torch.enable_grad():
            x = path[i].detach().requires_grad_()
            (product,) = torch.autograd.grad(base(s, x, moment(s, t)), x, adjoint)
        adjoint = adjoint + h * (2.0 * product - adjoint / t)
        adjoints.append(adjoint)
    return torch.stack(adjoints[::-1])


def adjoint_loss(fast: Tensor, base: Tensor, adjoints: Tensor) -> Tensor:
    """Return L_adj, summed over tasks.

    Args:
        fast: v_fast(X_i, t_i) [T, K, N, C].
        base: v_base(X_i, t_i), a constant, likewise.
        adjoints: A_i, constants, likewise.
    """
    steps = len(adjoints)
    sigma = fast.new_tensor([noise_scale(i, steps) for i in range(steps)]).view(-1, 1, 1, 1)
    loss: Tensor = (2.0 / sigma * (fast - base) + sigma * adjoints).square().sum(dim=(0, 3)).mean(dim=1).sum()
    return loss
