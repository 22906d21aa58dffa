"""MAML-PPO: learning a policy that adapts to a new task from a few of its trajectories.

MAML (Finn et al. 2017, arXiv:1703.03400) whose inner gradients differentiate a likelihood ratio and whose
outer objective is PPO's clipped one (Rothfuss et al. 2019, ProMP, arXiv:1810.06784, algorithm 1).

    repeat until iterations:
        sample n tasks; θ′₀ = θ for every task
        for k = 0 … inner_steps, for all tasks at once:
            D_k: K trajectories under θ′_k, with the log π_old of their actions and advantages A
            θ′_{k+1} = θ′_k − α ∇ inner loss(θ′_k; D_k), but for the last k
        repeat `epochs` times:
            θ′₀ = θ
            for k = 0 … inner_steps − 1:
                θ′_{k+1} = θ′_k − α ∇ inner loss(θ′_k; D_k), to be differentiated
            loss = −E[min(r A, clip(r, 1 − ε, 1 + ε) A)] − entropy_coef E[entropy]
                   with r = π_θ′(a|s) ⁄ π_old(a|s) and E over the last trajectories of all tasks
            stop the epochs when approx KL > 1.5 target_kl
            scale the gradient with respect to θ down to max_grad_norm; one step of Adam with rate β

    inner loss(θ; D) = −E_D[ρ A], where ρ is
        per-step     π_θ(a_t|s_t) ⁄ π_old(a_t|s_t): low variance, its second derivative slightly biased
        cumulative   the product of these up to t, less that up to t − 1: unbiased (Foerster et al. 2018,
                     DiCE, arXiv:1802.05098; with a baseline Farquhar et al. 2019, arXiv:1909.10549)

    promp        adds inner_kl_coef times KL(π_old ‖ π_θ′ₖ) on D_k, mean over the inner steps, to the loss
    fomaml-ppo   takes the inner gradients for constants

π_old is the policy that D_k was sampled under, through all epochs: differentiating log π A instead, as one
does without meta-learning, gives the same step but wrong meta-gradients. A comes from GAE(γ, λ) with a
linear baseline fitted to each task's trajectories, brought to mean 0 and deviation 1 for each task. The
baseline sees the time, so that a time limit counts as the episode's end. Without inner steps this is PPO on
all tasks alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainers.arrays import adam_arrays, leaf, restore_adam, to_array
from trainers.declarations import InvalidValue, Value
from trainers.devices import find_device, use_threads
from trainers.envs.families import make_family
from trainers.envs.families.family import FamilyTasks
from trainers.fast_weights import FastWeights
from trainers.hyperparameters import MAMLPPOHyperparameters, MAMLPPOSetup
from trainers.memory import Memory, check_network, check_trajectories
from trainers.meta_policies import MetaPolicy, check_observation
from trainers.policy_adaptation import adapt, descend, held_out_rates, measurements
from trainers.randomness import restore_torch, seed_for, torch_generator, torch_state
from trainers.settings import LiveSettings, annealed_rate, check_changes
from trainers.spaces import check_spaces, spaces_of
from trainers.surrogate import clipped_surrogate
from trainers.trainer import Iteration, Progress, State, TrainingError
from trainers.trajectories import Generators, Trajectories, blank
from trainers.trajectory_pictures import PICTURED, draw_trajectories

_MEMORY = (
    "meta_batch_size", "trajectories_per_task", "inner_steps", "eval_every", "eval_tasks", "eval_inner_steps",
)  # fmt: skip
_PENALTY = "inner_kl_coef"
_MUST_BE_FINITE = {"policy_loss": "policy loss", "entropy": "entropy", "grad_norm": "meta-gradient norm"}


# -- the algorithm ----------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """What is measured of the outer loss on the way, without derivatives; each []."""

    policy_loss: Tensor
    entropy: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    ratio_max: Tensor
    inner_kl: Tensor


def meta_loss(
    policy: MetaPolicy,
    parameters: Mapping[str, Tensor],
    sampled: Sequence[Trajectories],
    h: MAMLPPOHyperparameters,
    *,
    variant: str = "maml-ppo",
    inner_ratio: str = "per-step",
) -> tuple[Tensor, Measured]:
    """The outer loss of ``parameters`` on what :func:`adapt` sampled, and what was measured of it."""
    *before, last = sampled
    weights = FastWeights(parameters, len(last.shares), adapted=None if before else ())
    divergences = []
    for data in before:
        weights, divergence = descend(
            policy, weights, data, h.inner_lr, inner_ratio=inner_ratio, second_order=variant != "fomaml-ppo"
        )
        divergences.append(divergence)
    log_probs, entropies = policy(weights, last.observations).evaluate(last.actions)
    shares = last.shares / len(last.shares)
    surrogate = clipped_surrogate(log_probs, last.log_probs, last.advantages, shares, h.clip_epsilon)
    entropy = (shares * entropies).sum()
    inner_kl = torch.stack(divergences).mean() if divergences else torch.zeros_like(entropy)
    loss = surrogate.loss - h.entropy_coef * entropy
    if variant == "promp":
        loss = loss + h.inner_kl_coef * inner_kl
    measured = (surrogate.loss, entropy, *surrogate[1:], inner_kl)
    return loss, Measured(*(value.detach() for value in measured))


# -- the trainer ------------------------------------------------------------------------------------------


class MAMLPPO:
    """MAML-PPO as an iterator; see :class:`trainers.trainer.Trainer` for the interface.

    Every iteration begins with fresh resets, so the environments have no state to keep.
    """

    def __init__(self, setup: MAMLPPOSetup, hyperparameters: MAMLPPOHyperparameters) -> None:
        self.setup = setup
        self.device = find_device(setup.device)
        use_threads(setup.threads)
        # A copy: schedules and changes write into it.
        h = replace(hyperparameters)
        self.settings = LiveSettings(h, annealed_rate(h))
        self.family = make_family(setup.env, setup.env_arg, vector=setup.vector, device=self.device)
        try:
            family = self.family
            check_observation(setup.env, family.observation)
            self.policy = MetaPolicy(family.observation, family.action, h.hidden_sizes, h.activation)
            check_network(self.policy, h, self.device)
            initial = self.policy.initial(torch_generator(setup.seed, "initialisation"))
            self.parameters = {name: leaf(tensor.to(self.device)) for name, tensor in initial.items()}
            self.optimizer = torch.optim.Adam(list(self.parameters.values()), h.outer_lr, fused=True)
            self.memory = self._checked_memory(h)
        except BaseException:
            self.family.close()
            raise
        self.generators = self._generators("training")
        self._iteration = self._steps = 0

    # -- one iteration ------------------------------------------------------------------------------------

    def step(self) -> Iteration:
        """Sample tasks, adapt to them and update. Raises what the environments raise."""
        began = perf_counter()
        self.settings.advance(self._iteration)
        h = self.settings.values
        tasks = self.family.sample_tasks(h.meta_batch_size, self.generators.tasks)
        sampled = self.adapt(tasks, [h.inner_lr] * h.inner_steps, self.generators)
        self._iteration += 1
        adapted = perf_counter()
        measured, fault = self._update(sampled)
        learned = perf_counter()

        metrics = {f"meta/{name}": value for name, value in measurements(sampled).items()}
        if fault is not None:
            fault += f"; {int(metrics['meta/diverged_tasks'])} of {h.meta_batch_size} tasks diverged"
        steps = int(metrics.pop("meta/steps"))
        self._steps += steps
        explained = metrics.pop("meta/explained_variance")
        if not math.isnan(explained):
            metrics["train/explained_variance"] = explained
        metrics |= {
            "meta/inner_kl": measured.pop("inner_kl"),
            "meta/outer_grad_norm": measured.pop("grad_norm"),
        }
        metrics |= {f"train/{name}": value for name, value in measured.items()}
        metrics |= {
            "meta/inner_lr": h.inner_lr,
            "meta/outer_lr": h.outer_lr,
            "train/clip_epsilon": h.clip_epsilon,
        }
        if h.eval_every and (self._iteration % h.eval_every == 0 or self.finished):
            metrics |= self._held_out()
        pictures: tuple[dict[str, Any], ...] = ()
        if h.picture_every and (self._iteration == 1 or self._iteration % h.picture_every == 0):
            pictures = self._pictures()
        seconds, sampling = perf_counter() - began, sum(data.seconds for data in sampled)
        metrics |= {
            "time/fps": steps / (learned - began),
            "time/steps": float(self._steps),
            "time/iterations_per_second": 1 / seconds,
            "time/iteration_seconds": seconds,
            "time/sample_seconds": sampling,
            "time/adapt_seconds": adapted - began - sampling,
            "time/learn_seconds": learned - adapted,
        }
        return Iteration(self._iteration, metrics, fault, pictures=pictures)

    def adapt(self, tasks: FamilyTasks, rates: Sequence[float], generators: Generators) -> list[Trajectories]:
        """Adapt the parameters in force to ``tasks``; see :func:`adapt`."""
        return adapt(
            self.policy,
            self.parameters,
            self.family,
            tasks,
            rates,
            self.settings.values,
            generators,
            inner_ratio=self.setup.inner_ratio,
        )

    def held_out_rates(self) -> list[float]:
        """The step sizes on held-out tasks, one for each step."""
        return held_out_rates(self.settings.values)

    def _update(self, sampled: Sequence[Trajectories]) -> tuple[dict[str, float], str | None]:
        """The epochs on ``sampled``: what was measured, mean over them; the fault that ended them."""
        h, parameters = self.settings.values, list(self.parameters.values())
        for group in self.optimizer.param_groups:
            group["lr"] = h.outer_lr
        rows: list[dict[str, float]] = []
        fault = None
        for epoch in range(1, h.epochs + 1):
            loss, found = self._meta_loss(sampled, h)
            gradients = torch.autograd.grad(loss, parameters)
            norm = torch.nn.utils.get_total_norm(gradients)
            # Everything is read from the device at once.
            names, values = (*Measured._fields, "grad_norm"), torch.stack((*found, norm)).tolist()
            measured = dict(zip(names, values, strict=True))
            rows.append(measured)
            if fault := _fault(measured, epoch):
                break
            if h.target_kl is not None and measured["approx_kl"] > 1.5 * h.target_kl:
                break
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            if h.max_grad_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, h.max_grad_norm, norm)
            self.optimizer.step()
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        means["ratio_max"] = max(row["ratio_max"] for row in rows)
        return means, fault

    def _meta_loss(
        self, sampled: Sequence[Trajectories], h: MAMLPPOHyperparameters
    ) -> tuple[Tensor, Measured]:
        variant, inner_ratio = self.setup.variant, self.setup.inner_ratio
        return meta_loss(self.policy, self.parameters, sampled, h, variant=variant, inner_ratio=inner_ratio)

    def _held_out(self) -> dict[str, float]:
        """How the tasks of every measurement, which are the same, go with the parameters in force."""
        generators = self._generators("evaluation")
        tasks = self.family.sample_tasks(self.settings.values.eval_tasks, generators.tasks)
        found = measurements(self.adapt(tasks, self.held_out_rates(), generators))
        return {
            f"meta_test/{name}": found[name] for name in found if name not in ("steps", "explained_variance")
        }

    def _pictures(self) -> tuple[dict[str, Any], ...]:
        """One held-out task, always the same, with the parameters in force."""
        if self.setup.env not in PICTURED:
            return ()
        generators = self._generators("pictures")
        tasks = self.family.sample_tasks(1, generators.tasks)
        sampled = self.adapt(tasks, self.held_out_rates(), generators)
        return (draw_trajectories(self.setup.env, self.family, tasks[0], sampled),)

    def _checked_memory(self, h: MAMLPPOHyperparameters) -> Memory:
        """The estimate for ``h``. Raises :class:`TrainingError`."""

        def sampled(tasks: int, length: int, steps: int) -> list[Trajectories]:
            weights = FastWeights(self.parameters, tasks, adapted=())
            count = h.trajectories_per_task
            return [blank(self.policy, weights, length, count, self.device) for _ in range(steps + 1)]

        def learn(tasks: int, length: int, steps: int) -> None:
            loss, _ = self._meta_loss(sampled(tasks, length, steps), h)
            torch.autograd.grad(loss, list(self.parameters.values()))

        def measure(tasks: int, length: int, steps: int) -> None:
            everything, weights = sampled(tasks, length, steps), FastWeights(self.parameters, tasks)
            for data in everything[:-1]:
                weights, _ = descend(
                    self.policy, weights, data, 0.0, inner_ratio=self.setup.inner_ratio, second_order=False
                )

        return check_trajectories(
            learn,
            measure,
            self.parameters,
            h,
            self.family.horizon,
            self.policy.observation.size,
            self.setup.variant == "fomaml-ppo",
        )

    def _generators(self, purpose: str) -> Generators:
        """New ones for ``purpose``, always the same."""
        actions = torch.Generator(self.device).manual_seed(seed_for(self.setup.seed, f"{purpose} actions"))
        return Generators(torch_generator(self.setup.seed, f"{purpose} tasks"), actions)

    # -- the interface of a trainer -----------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return self._iteration

    @property
    def progress(self) -> Progress:
        """Iterations done, of ``iterations``."""
        return Progress(self._iteration, self.settings.values.iterations, "iterations")

    @property
    def finished(self) -> str | None:
        """Why there is nothing left to do, or ``None``."""
        total = self.settings.values.iterations
        return f"trained for {self._iteration} iterations" if self._iteration >= total else None

    def change(self, changes: Mapping[str, Value], *, rebase: bool = False) -> dict[str, tuple[Value, Value]]:
        """Set hyperparameters from the next iteration on; Adam keeps its moments.

        Raises :class:`~trainers.declarations.InvalidValue`, also for a penalty that the variant hasn't.
        """
        self.settings.advance(self._iteration)  # so that old values are those due at the next iteration
        h = replace(self.settings.values, **check_changes(self.settings.values, changes))
        if _PENALTY in changes and self.setup.variant != "promp":
            why = f"only variant = promp has this penalty, and this run's is {self.setup.variant}"
            raise InvalidValue(_PENALTY, changes[_PENALTY], why)
        if name := next((name for name in changes if name in _MEMORY), None):
            try:
                self.memory = self._checked_memory(h)
            except TrainingError as refusal:
                raise InvalidValue(name, changes[name], str(refusal).partition(": ")[2]) from refusal
        return self.settings.change(changes, rebase=rebase)

    def remarks(self) -> tuple[str, ...]:
        """The memory that an iteration is estimated to take."""
        return (self.memory.in_words(),)

    def decisions(self) -> dict[str, Any]:
        """How environments run side by side, where there is a choice, and the threads in use."""
        kind = self.setup.vector if self.family.kind == "batched" else self.family.kind
        return {"vector": kind, "threads": self.setup.threads}

    def state(self) -> State:
        """All that it takes to go on bit for bit."""
        numbers = {
            "iteration": self._iteration,
            "steps": self._steps,
            "settings": self.settings.state(),
            "generators": {
                purpose: torch_state(generator) for purpose, generator in self.generators._asdict().items()
            },
            "spaces": spaces_of(self.policy),
        }
        weights = {name: to_array(parameter) for name, parameter in self.parameters.items()}
        return State(weights, adam_arrays(self.optimizer, self.parameters), numbers)

    def restore(self, state: State) -> str | None:
        """Go on from ``state``; always exactly, as far as the environments are deterministic.

        Raises :class:`TrainingError` where they have other spaces by now, or memory has become too little.
        """
        check_spaces(self.setup.env, self.policy, state.numbers["spaces"])
        built = self.settings.values
        self.settings.restore(state.numbers["settings"])
        h = self.settings.values
        if any(getattr(h, name) != getattr(built, name) for name in _MEMORY):
            self.memory = self._checked_memory(h)
        self._iteration, self._steps = state.numbers["iteration"], state.numbers["steps"]
        for purpose, generator in self.generators._asdict().items():
            restore_torch(generator, state.numbers["generators"][purpose])
        for name, parameter in self.parameters.items():
            parameter.data.copy_(torch.tensor(state.weights[name]))
        restore_adam(self.optimizer, self.parameters, state.tensors)
        return None

    def close(self) -> None:
        """Close the environments."""
        self.family.close()


def _fault(measured: Mapping[str, float], epoch: int) -> str | None:
    """What is not finite, in words."""
    broken = [
        f"{words} = {measured[name]:g}"
        for name, words in _MUST_BE_FINITE.items()
        if not math.isfinite(measured[name])
    ]
    return (
        f"{', '.join(broken)} in epoch {epoch}; this and the rest of the update were skipped"
        if broken
        else None
    )
