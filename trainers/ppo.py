"""Proximal policy optimization with the clipped objective (Schulman et al. 2017, arXiv:1707.06347).

    repeat until total_steps, or until the mean return of the last 100 episodes reaches `until`:
        collect T steps of N environments under the policy π_old; rows that only reset have weight 0
        divide the rewards by the running deviation of returns, these included, where that is asked for
        values V and log-probabilities log π_old of all rows, with the weights they were drawn with
        advantages A: GAE(γ, λ), bootstrapped with V where an episode was truncated; targets = A + V
        repeat `epochs` times:
            for each minibatch of the shuffled rows:
                r = π(a|s) ⁄ π_old(a|s)
                loss = −E[min(r A, clip(r, 1 − ε, 1 + ε) A)]
                       + value_coef ½ E[(V − target)²] − entropy_coef E[entropy of π]
                stop the epochs when approx KL > 1.5 target_kl
                scale the gradient down to max_grad_norm; one step of Adam
        take the observations into the running normaliser

E is the mean over rows of weight 1; A is brought to mean 0 and deviation 1 over them. With a
value_clip_epsilon the squared error is the larger of that and the error of V clipped to ± it around the
value before the update.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainers.adam import Adam
from trainers.advantages import explained_variance, generalized_advantages, normalized
from trainers.arrays import adam_arrays, restore_adam, to_array
from trainers.declarations import Value
from trainers.devices import find_device, use_threads
from trainers.envs.making import make_environments
from trainers.envs.spaces import action_spec, observation_spec
from trainers.evaluation import Evaluator
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.normalizers import RewardNormalizer
from trainers.policies import Policy
from trainers.ppo_gradients import gradients_by_hand
from trainers.randomness import restore_torch, seed_for, torch_generator, torch_state
from trainers.rollout import EPISODES_REPORTED, Collector, Rollout
from trainers.settings import LinearSchedule, LiveSettings
from trainers.spaces import check_spaces, spaces_of
from trainers.surrogate import clipped_surrogate
from trainers.trainer import Iteration, Progress, State

_ADAM_EPSILON = 1e-5
_MUST_BE_FINITE = {
    "policy_loss": "policy loss",
    "value_loss": "value loss",
    "entropy": "entropy",
    "grad_norm": "gradient norm",
}


class Minibatch(NamedTuple):
    """Rows of a rollout, each [B, …]; ``log_probs`` and ``values`` are those from before the update."""

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    targets: Tensor
    weights: Tensor


class Measured(NamedTuple):
    """Of a minibatch, before the step on it; ``grad_norm`` before the gradient is scaled down."""

    policy_loss: float
    value_loss: float
    entropy: float
    approx_kl: float
    clip_fraction: float
    ratio_max: float
    grad_norm: float


class PPO:
    """PPO as an iterator; see :class:`trainers.trainer.Trainer` for the interface."""

    def __init__(self, setup: PPOSetup, hyperparameters: PPOHyperparameters) -> None:
        self.setup = setup
        self.device = find_device(setup.device)
        use_threads(setup.threads)
        # A copy: schedules and changes write into it.
        h = replace(hyperparameters)
        self.settings = LiveSettings(h, _schedules(h))
        self.environments = make_environments(setup, h.num_envs, seed_for(setup.seed, "environments"))
        try:
            self.policy = Policy(
                observation_spec(self.environments.observation_space, stacked=setup.frame_stack > 1),
                action_spec(self.environments.action_space),
                hidden_sizes=h.hidden_sizes,
                activation=h.activation,
                normalize_observations=h.normalize_observations,
                generator=torch_generator(setup.seed, "initialisation"),
            ).to(self.device)
            self.reward_normalizer = RewardNormalizer(h.num_envs) if h.normalize_rewards else None
            self._wholes = self.policy.wholes()
            self.optimizer = Adam(
                list(self.policy.parameters()), self._wholes, h.learning_rate, _ADAM_EPSILON
            )
            self.generators = {
                "actions": torch.Generator(self.device).manual_seed(seed_for(setup.seed, "actions")),
                "minibatches": torch_generator(setup.seed, "minibatches"),
            }
            self.collector = Collector(self.environments, self.policy, h.rollout_steps, self.device)
        except BaseException:
            self.environments.close()
            raise
        self._iteration = self._steps = 0
        self._solved_said = False
        self._evaluations: Evaluator | None = None

    # -- one iteration ------------------------------------------------------------------------------------

    def step(self) -> Iteration:
        """One rollout and the update on it. Raises what the environments raise."""
        began = perf_counter()
        self.settings.advance(self._steps)
        h = self.settings.values
        self.optimizer.learning_rate = h.learning_rate

        rollout = self.collector.collect(self.generators["actions"])
        self._iteration += 1
        self._steps += rollout.steps
        collected = perf_counter()
        batch = self._batch(rollout)
        measured, fault = self._update(batch)
        if self.policy.normalizer is not None and fault is None:
            rows = self.policy.normalizer_rows(batch.observations)
            self.policy.normalizer.update(rows, batch.weights)
        learned = perf_counter()

        metrics = self.collector.episodes.metrics()
        metrics |= {f"train/{name}": value for name, value in measured.items()}
        explained = explained_variance(batch.values, batch.targets, batch.weights)
        if explained is not None:
            metrics["train/explained_variance"] = explained
        metrics |= {"train/learning_rate": h.learning_rate, "train/clip_epsilon": h.clip_epsilon}
        if h.eval_every and (self._iteration % h.eval_every == 0 or self.finished):
            metrics |= self._evaluator(h.eval_episodes)(self.policy).metrics()
        seconds = perf_counter() - began
        metrics |= {
            "time/fps": rollout.steps / (learned - began),
            "time/steps": float(self._steps),
            "time/iteration_seconds": seconds,
            "time/env_seconds": collected - began,
            "time/learn_seconds": learned - collected,
        }
        return Iteration(self._iteration, metrics, fault, self._events())

    @torch.no_grad()
    def _batch(self, rollout: Rollout) -> Minibatch:
        """The whole rollout as rows [T × N, …], with advantages and value targets."""
        h = self.settings.values
        rewards = rollout.rewards
        if self.reward_normalizer is not None:
            rewards = self.reward_normalizer(rewards, rollout.done, rollout.weights, h.gamma)
        to_device = (rewards.astype("float32"), rollout.terminated, rollout.done, rollout.weights)
        scaled, terminated, done, weights = (torch.from_numpy(array).to(self.device) for array in to_device)

        observations, actions = rollout.observations[:-1].flatten(0, 1), rollout.actions.flatten(0, 1)
        log_probs, _, values = self._in_parts(observations, actions)
        last_values = self.policy.value(rollout.observations[-1])
        values = torch.cat((values.reshape(rewards.shape), last_values[None]))
        advantages = generalized_advantages(scaled, values, terminated, done, h.gamma, h.gae_lambda)
        values, advantages = values[:-1].flatten(), advantages.flatten()
        targets = advantages + values
        return Minibatch(observations, actions, log_probs, values, advantages, targets, weights.flatten())

    def _in_parts(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """``policy.evaluate`` in parts of a minibatch's size, so that images need no more memory than it."""
        size = self.settings.values.minibatch_size
        parts = zip(torch.split(observations, size), torch.split(actions, size), strict=True)
        results = zip(*(self.policy.evaluate(*part) for part in parts), strict=True)
        return tuple(torch.cat(result) for result in results)

    @torch.no_grad()
    @np.errstate(all="ignore")  # What is not finite is found in what is measured.
    def _update(self, batch: Minibatch) -> tuple[dict[str, float], str | None]:
        """The epochs over ``batch``: what was measured, mean over minibatches; the fault that ended them."""
        h = self.settings.values
        rows: list[Measured] = []
        fault = None
        for epoch, number, minibatch in self._minibatches(batch):
            measured = gradients(self.policy, minibatch, h)
            rows.append(measured)
            if fault := _fault(measured, epoch, number):
                break
            if h.target_kl is not None and measured.approx_kl > 1.5 * h.target_kl:
                break
            if h.max_grad_norm is not None and measured.grad_norm > h.max_grad_norm:
                for gradient in (whole.grad for whole in self._wholes):
                    if gradient is not None:
                        gradient.mul_(h.max_grad_norm / measured.grad_norm)
            self.optimizer.update()
        columns = zip(Measured._fields, zip(*rows, strict=True), strict=True)
        means = {name: sum(column) / len(rows) for name, column in columns}
        means["ratio_max"] = max(row.ratio_max for row in rows)
        return means, fault

    def _minibatches(self, batch: Minibatch) -> Iterator[tuple[int, int, Minibatch]]:
        """Epoch and number, from 1, and :func:`weighed` rows of each minibatch; every epoch shuffles anew,
        unless its only minibatch is the whole rollout, whose order does not matter.

        A minibatch in which no row counts is left out: it would move the weights by Adam's momentum alone.
        """
        h = self.settings.values
        generator, rows = self.generators["minibatches"], len(batch.weights)
        if h.minibatch_size == rows:
            everything = weighed(batch, h)
            epochs = range(1, h.epochs + 1) if everything.weights.any() else ()
            yield from ((epoch, 1, everything) for epoch in epochs)
            return
        order = torch.cat([torch.randperm(rows, generator=generator) for _ in range(h.epochs)])
        order = order.to(self.device)
        # All epochs at once, which takes `epochs` times the memory of the rollout's rows, but for
        # observations: of images that would be too much, so they are gathered minibatch by minibatch.
        actions, numbers = batch.actions.index_select(0, order), torch.stack(batch[2:]).index_select(1, order)
        columns = (order, actions, *numbers)
        shuffled = weighed(Minibatch(*(c.unflatten(0, (-1, h.minibatch_size)) for c in columns)), h)
        counted = shuffled.weights.any(1).tolist()
        for position, (own, *others) in enumerate(zip(*shuffled, strict=True)):
            if counted[position]:
                epoch, number = divmod(position, rows // h.minibatch_size)
                observations = batch.observations.index_select(0, own)
                yield epoch + 1, number + 1, Minibatch(observations, *others)

    def _evaluator(self, episodes: int) -> Evaluator:
        if self._evaluations is None or self._evaluations.episodes != episodes:
            if self._evaluations is not None:
                self._evaluations.close()
            seed = seed_for(self.setup.seed, "evaluation")
            self._evaluations = Evaluator(self.setup, episodes, seed, kind=self.environments.kind)
        return self._evaluations

    def _events(self) -> tuple[str, ...]:
        mean, threshold = self.collector.episodes.mean, self.environments.reward_threshold
        if self._solved_said or mean is None or threshold is None or mean < threshold:
            return ()
        self._solved_said = True
        over = f"over the last {EPISODES_REPORTED} episodes"
        return (f"solved: mean return {mean:.1f} {over}, threshold {threshold:g}",)

    # -- the interface of a trainer -----------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return self._iteration

    @property
    def progress(self) -> Progress:
        """Environment steps done, of ``total_steps``."""
        return Progress(self._steps, self.settings.values.total_steps, "steps")

    @property
    def finished(self) -> str | None:
        """Why there is nothing left to do, or ``None``."""
        h = self.settings.values
        if h.until is not None and (mean := self.collector.episodes.mean) is not None and mean >= h.until:
            return f"mean return {mean:.1f} over the last {EPISODES_REPORTED} episodes, until = {h.until:g}"
        if self._steps >= h.total_steps:
            return f"trained for {self._steps} steps, total_steps = {h.total_steps}"
        return None

    def change(self, changes: Mapping[str, Value], *, rebase: bool = False) -> dict[str, tuple[Value, Value]]:
        """Set hyperparameters from the next iteration on; Adam keeps its moments."""
        # To that iteration's values, so that a schedule that is scaled passes through the one asked for.
        self.settings.advance(self._steps)
        return self.settings.change(changes, rebase=rebase)

    def remarks(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    def decisions(self) -> dict[str, Any]:
        """How environments run side by side, and the threads in use."""
        return {"vector": self.environments.kind, "threads": self.setup.threads}

    def state(self) -> State:
        """All that it takes to go on bit for bit."""
        weights = {name: to_array(tensor) for name, tensor in self.policy.state_dict().items()}
        tensors, numbers = self.collector.state()
        tensors |= adam_arrays(self.optimizer, dict(self.policy.named_parameters()))
        if self.reward_normalizer is not None:
            moments = self.reward_normalizer.moments.state_dict()
            weights |= {f"reward_normalizer.{name}": to_array(tensor) for name, tensor in moments.items()}
            tensors["reward_normalizer.returns"] = self.reward_normalizer.returns.copy()
        numbers |= {
            "iteration": self._iteration,
            "steps": self._steps,
            "solved_said": self._solved_said,
            "settings": self.settings.state(),
            "generators": {purpose: torch_state(generator) for purpose, generator in self.generators.items()},
            "spaces": spaces_of(self.policy),
        }
        return State(weights, tensors, numbers)

    def restore(self, state: State) -> str | None:
        """Go on from ``state``; why the environments may not go on exactly, or ``None``.

        Raises :class:`TrainingError` where they have other spaces by now.
        """
        check_spaces(self.setup.env, self.policy, state.numbers["spaces"])
        weights = {name: torch.tensor(array) for name, array in state.weights.items()}
        prefix = "reward_normalizer."
        if self.reward_normalizer is not None:
            own = {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}
            self.reward_normalizer.moments.load_state_dict(own)
        self.policy.load_state_dict({name: weights[name] for name in weights if not name.startswith(prefix)})
        restore_adam(self.optimizer, dict(self.policy.named_parameters()), state.tensors)
        numbers = state.numbers
        self._iteration, self._steps = numbers["iteration"], numbers["steps"]
        self._solved_said = numbers["solved_said"]
        self.settings.restore(numbers["settings"])
        for purpose, generator in self.generators.items():
            restore_torch(generator, numbers["generators"][purpose])
        reason = self.collector.restore(state.tensors, numbers)
        if self.reward_normalizer is not None:
            returns = state.tensors["reward_normalizer.returns"]
            self.reward_normalizer.returns = self.collector.going_on(returns)
        return reason

    def close(self) -> None:
        """Close all environments."""
        self.environments.close()
        if self._evaluations is not None:
            self._evaluations.close()


def ppo_loss(policy: Policy, batch: Minibatch, h: PPOHyperparameters) -> tuple[Tensor, Tensor]:
    """The loss of a :func:`weighed` minibatch, and :class:`Measured` up to the gradient's norm."""
    log_probs, entropy, values = policy.evaluate(batch.observations, batch.actions)
    shares = batch.weights
    surrogate = clipped_surrogate(log_probs, batch.log_probs, batch.advantages, shares, h.clip_epsilon)

    errors = (values - batch.targets).square()
    if h.value_clip_epsilon is not None:
        moved = (values - batch.values).clamp(-h.value_clip_epsilon, h.value_clip_epsilon)
        errors = torch.maximum(errors, (batch.values + moved - batch.targets).square())
    value_loss = 0.5 * (shares * errors).sum()
    entropy_mean = (shares * entropy).sum()
    loss = surrogate.loss + h.value_coef * value_loss - h.entropy_coef * entropy_mean

    measured = (surrogate.loss, value_loss, entropy_mean, *surrogate[1:])
    return loss, torch.stack([value.detach() for value in measured])


def weighed(batch: Minibatch, h: PPOHyperparameters) -> Minibatch:
    """``batch``, or several [M, B, …], with weights that sum to 1, or all 0, and advantages as the loss
    takes them.
    """
    shares = batch.weights / batch.weights.sum(-1, keepdim=True).clamp(min=1)
    advantages = normalized(batch.advantages, shares) if h.normalize_advantages else batch.advantages
    return batch._replace(weights=shares, advantages=advantages)


def gradients(policy: Policy, batch: Minibatch, h: PPOHyperparameters) -> Measured:
    """Set every parameter's ``grad`` to that of the loss on a :func:`weighed` minibatch."""
    if policy.perceptrons is not None:
        return Measured(*gradients_by_hand(policy, policy.perceptrons, batch, h))
    policy.zero_grad(set_to_none=True)
    with torch.enable_grad():
        loss, measured = ppo_loss(policy, batch, h)
        torch.autograd.backward(loss)
    found = [p.grad for p in policy.parameters() if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in found]))
    # One tensor, so that reading it costs one transfer from the device.
    return Measured(*torch.cat((measured, norm[None])).tolist())


def _fault(measured: Measured, epoch: int, number: int) -> str | None:
    """Which losses or gradients are not finite, and where, in words."""
    broken = [
        f"{words} = {value:g}"
        for name, words in _MUST_BE_FINITE.items()
        if not math.isfinite(value := getattr(measured, name))
    ]
    if not broken:
        return None
    where = f"in minibatch {number} of epoch {epoch}"
    return f"{', '.join(broken)} {where}; this and the rest of the update were skipped"


def _schedules(h: PPOHyperparameters) -> dict[str, LinearSchedule]:
    if h.anneal == "none":
        return {}
    horizon = h.anneal_steps or h.total_steps
    initial = {name: getattr(h, name) for name in h.annealed}
    return {name: LinearSchedule(value, value * h.anneal_floor, horizon) for name, value in initial.items()}
