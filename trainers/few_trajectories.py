"""Using what was meta-learned: a run folder's policy, adapted to a task by a few of its trajectories."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.devices import find_device
from trainers.distributions import Distribution
from trainers.envs.families import make_family
from trainers.envs.families.family import Family, FamilyTasks
from trainers.envs.spaces import one_line
from trainers.fast_weights import FastWeights
from trainers.hyperparameters import MAMLPPOHyperparameters, MAMLPPOSetup
from trainers.meta_policies import MetaPolicy
from trainers.policies import CategoricalHead, GaussianHead
from trainers.policy_adaptation import adapt, descend, held_out_rates
from trainers.randomness import seed_for, torch_generator
from trainers.saved import read_newest
from trainers.settings import LiveSettings
from trainers.spaces import BoxSpec, DiscreteSpec, check_spaces, spaces_of, spec_from_json
from trainers.trainer import Array, TrainingError
from trainers.trajectories import Generators


@dataclass(frozen=True)
class MetaLearned:
    """``learned.adapt(task)`` gives a policy for a task; ``iteration`` is when its weights were saved.

    ``hyperparameters`` are those in force when the weights were saved and ``begun`` those that the run
    began with; ``steps`` counts the environment steps that it had taken.
    """

    setup: MAMLPPOSetup
    hyperparameters: MAMLPPOHyperparameters
    begun: MAMLPPOHyperparameters
    policy: MetaPolicy
    parameters: dict[str, Tensor]
    steps: int
    iteration: int = 0
    folder: Path = Path()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.parameters.values())).device

    def family(self) -> Family:
        """The run's environments; close them.

        Raises :class:`~trainers.trainer.TrainingError` for those that can't be had, or that have not the
        spaces that the policy was trained in.
        """
        setup = self.setup
        family = make_family(setup.env, setup.env_arg, vector=setup.vector, device=self.device)
        try:
            check_spaces(setup.env, family, spaces_of(self.policy))
        except TrainingError:
            family.close()
            raise
        return family

    def generators(self, purpose: str, seed: int | None = None) -> Generators:
        """New ones for ``purpose``, by default from the run's seed, always the same."""
        seed = self.setup.seed if seed is None else seed
        actions = torch.Generator(self.device).manual_seed(seed_for(seed, f"{purpose} actions"))
        return Generators(torch_generator(seed, f"{purpose} tasks"), actions)

    def adapt(
        self, task: Any, *, steps: int | None = None, trajectories: int | None = None, seed: int | None = None
    ) -> AdaptedPolicy:
        """Learn ``task`` by playing it: ``steps`` times, ``trajectories`` each, which default to the run's.

        ``task`` is one of ``learned.family().sample_tasks(…)``: numbers for navigation (the goal) and
        cartpole-family, what ``set_task`` takes for others. ``seed`` draws other trajectories. Raises
        :class:`ValueError` for a number that is too small and for numbers that are no task, and
        :class:`~trainers.trainer.TrainingError` where there are no environments to play in.
        """
        h = self.hyperparameters
        if steps is not None and steps < 0:
            raise ValueError(f"steps = {steps}: must be at least 0")
        if trajectories is not None:
            if trajectories < 1:
                raise ValueError(f"trajectories = {trajectories}: must be at least 1")
            h = replace(h, trajectories_per_task=trajectories)
        rates, ratio = held_out_rates(h, steps), self.setup.inner_ratio
        family = self.family()
        try:
            tasks: FamilyTasks = self._row(family, task)[None] if family.kind == "batched" else [task]
            generators = self.generators("adaptation", seed)
            sampled = adapt(
                self.policy, self.parameters, family, tasks, rates, h, generators, inner_ratio=ratio
            )
        finally:
            family.close()
        weights = FastWeights(self.parameters, 1)
        for data, rate in zip(sampled, rates, strict=False):
            weights, _ = descend(self.policy, weights, data, rate, inner_ratio=ratio, second_order=False)
        returns = tuple(float(data.returns.mean()) for data in sampled)
        return AdaptedPolicy(self.policy, weights, returns)

    def _row(self, family: Family, task: Any) -> Tensor:
        """``task`` as one row of the family's tensor of tasks. Raises :class:`ValueError`."""
        drawn = family.sample_tasks(1, torch.Generator())
        assert isinstance(drawn, Tensor)
        names = family.describe(drawn[0])
        wanted = f"{len(names)} finite numbers: {', '.join(names)}"
        try:
            row = torch.as_tensor(task, dtype=drawn.dtype)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"task = {one_line(repr(task))}: {self.setup.env} takes {wanted}") from error
        if row.shape != drawn[0].shape or not row.isfinite().all():
            raise ValueError(f"task = {one_line(row.tolist())}: {self.setup.env} takes {wanted}")
        return row


@dataclass(frozen=True)
class AdaptedPolicy:
    """``policy(observation)`` acts; ``returns`` are the mean ones in the task after 0 … steps steps."""

    policy: MetaPolicy
    weights: FastWeights
    returns: tuple[float, ...]

    @torch.no_grad()
    def __call__(self, observation: Any, *, deterministic: bool = True) -> Array:
        """The action for one observation, or actions [B, …] for a batch [B, …] of them.

        Actions are elements of the environments' action space. ``deterministic`` takes the most probable
        one, otherwise one is drawn with torch's global generator. Raises :class:`ValueError` for an
        observation of another shape.
        """
        shape, spec = self.policy.observation.shape, self.policy.action
        array = np.asarray(observation, np.float32)
        single = array.shape == shape
        if not single and array.shape[1:] != shape:
            raise ValueError(f"observation of shape {array.shape}: must be {shape}, or a batch of those")
        rows = torch.from_numpy(np.array(array[None] if single else array))
        distribution: Distribution = self.policy(self.weights, rows.to(self._device)[None])
        chosen = distribution.mode() if deterministic else distribution.sample(None)
        head = CategoricalHead(spec) if isinstance(spec, DiscreteSpec) else GaussianHead(spec)
        actions = head.shaped(chosen[0].reshape(len(rows), -1))
        action: Array = actions[0] if single else actions
        return action

    @property
    def _device(self) -> torch.device:
        return self.weights.parameter("layer1.weight").device


def load_meta_policy(path: str | Path, *, at: int | None = None, device: str = "cpu") -> MetaLearned:
    """What a run of maml-ppo has learned by its newest whole checkpoint, or by a checkpoint's folder.

    ``at`` asks for the newest checkpoint at or before that iteration. Files are read only after their
    SHA-256 was compared with the manifest's, and nothing is unpickled. Raises
    :class:`~trainers.trainer.TrainingError` where there is no run of maml-ppo or no whole checkpoint.
    """
    place = find_device(device)

    def build(
        setup: MAMLPPOSetup,
        begun: MAMLPPOHyperparameters,
        weights: dict[str, Tensor],
        numbers: dict[str, Any],
    ) -> MetaLearned:
        settings = LiveSettings(replace(begun))
        settings.restore(numbers["settings"])
        h, spaces = settings.values, numbers["spaces"]
        observation = spec_from_json(spaces["observation"])
        assert isinstance(observation, BoxSpec)
        policy = MetaPolicy(observation, spec_from_json(spaces["action"]), h.hidden_sizes, h.activation)
        names = policy.initial(torch.Generator())
        parameters = {name: weights[name].to(place).requires_grad_() for name in names}
        return MetaLearned(setup, h, begun, policy, parameters, int(numbers["steps"]))

    learned, iteration, folder = read_newest(path, "maml-ppo", build, what="policy", at=at)
    return replace(learned, iteration=iteration, folder=folder)
