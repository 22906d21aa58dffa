"""Any Gymnasium environment whose class has ``sample_tasks(n)`` and ``set_task(task)``, as a family.

Tasks are drawn right after a ``reset(seed=…)``: draw them from ``self.np_random``, and the run can be resumed
and repeated exactly. The README has an example.
"""

from __future__ import annotations

import logging
import math
import numbers
import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from torch import Tensor

from trainers.envs.families.family import FamilyTasks, Transition
from trainers.envs.families.task_copies import TaskCopies, TaskCopiesMaker, set_task
from trainers.envs.making import available_cores, faster_kind, seconds_per_step
from trainers.envs.replay import Array, EnvironmentFault, ReplayableEnv
from trainers.envs.single import EnvironmentMaker, accepted_arguments, find_environment
from trainers.envs.spaces import action_spec, observation_spec, one_line
from trainers.envs.subprocesses import SubprocessVectorEnv
from trainers.policies import CategoricalHead, GaussianHead
from trainers.spaces import DiscreteSpec
from trainers.trainer import TrainingError

Result = TypeVar("Result")
logger = logging.getLogger(__name__)

_LIMIT = "max_episode_steps"
_SEEDS = 2**31
"""Some simulators keep their seed in a signed integer of 32 bits."""
_SMALL_ROLLOUT = 100
"""Copies for which processes must pay off."""


class GymnasiumFamily:
    """n × K copies of an environment that step one by one.

    ``sync``: in this process. ``async``: shared out among as many processes as there are cores. Both give
    the same numbers, bit for bit.
    """

    def __init__(
        self, maker: EnvironmentMaker, single: ReplayableEnv, horizon: int, kind: str, device: torch.device
    ) -> None:
        """``single`` is an environment of its own, to draw tasks with; the family closes it."""
        self.kind, self.horizon, self.device = kind, horizon, device
        self.observation = observation_spec(single.observation_space)
        self.action = action_spec(single.action_space)
        spec = self.action
        self._head = CategoricalHead(spec) if isinstance(spec, DiscreteSpec) else GaussianHead(spec)
        self._name, self._single, self._steps = maker.env, single, 0
        self._copies = _in_processes(maker) if kind == "async" else TaskCopies(maker, 0, 1)

    def sample_tasks(self, count: int, generator: torch.Generator) -> Sequence[Any]:
        """``count`` tasks of the class's own ``sample_tasks``, which draws after a reset with a seed.

        Raises :class:`TrainingError` when it raises or gives another number of them.
        """
        seed = int(torch.randint(_SEEDS, (), generator=generator))
        return sampled_tasks(self._name, self._single, count, seed)

    def reset(self, tasks: FamilyTasks, trajectories: int, generator: torch.Generator) -> Tensor:
        """Begin ``trajectories`` episodes of each task; raises :class:`EnvironmentFault`."""
        self._leading, self._steps = (len(tasks), trajectories), 0
        seeds = torch.randint(_SEEDS, (len(tasks) * trajectories,), generator=generator).tolist()
        (observations,) = self._gathered("begin", list(tasks), trajectories, seeds)
        return self._tensor(self._finite(observations, "an observation"))

    def step(self, actions: Tensor) -> Transition:
        """One step of all; raises :class:`EnvironmentFault`."""
        self._steps += 1
        rows = actions.reshape(math.prod(self._leading), -1)
        chosen = self._finite(self._head.shaped(rows), "the action")
        observations, rewards, terminated, truncated = self._gathered("advance", chosen)
        if self._steps >= self.horizon:
            truncated = truncated | ~terminated
        return Transition(
            self._tensor(self._finite(observations, "an observation")),
            self._tensor(self._finite(rewards, "a reward")),
            self._tensor(terminated),
            self._tensor(truncated),
        )

    def describe(self, task: Any) -> dict[str, float]:
        """The numbers that the task is made of: those of a mapping by their keys, others by place."""
        if isinstance(task, dict):
            named = {str(key): value for key, value in task.items()}
        elif isinstance(task, np.ndarray | list | tuple):
            named = {f"task_{place}": value for place, value in enumerate(np.asarray(task).ravel().tolist())}
        else:
            named = {"task": task}
        return {key: float(value) for key, value in named.items() if isinstance(value, numbers.Real)}

    def close(self) -> None:
        """Close the copies and end their processes."""
        self._single.close()
        self._copies.close()

    def _gathered(self, method: str, *arguments: Any) -> list[Array]:
        if isinstance(self._copies, TaskCopies):
            parts = [getattr(self._copies, method)(*arguments)]
        else:
            vector = self._copies
            parts = list(self._call(vector, lambda: vector.call(method, *arguments)))
        gathered = []
        for pieces in zip(*parts, strict=True):
            whole = np.empty((math.prod(self._leading), *pieces[0].shape[1:]), pieces[0].dtype)
            for first, piece in enumerate(pieces):
                whole[first :: len(pieces)] = piece
            gathered.append(whole)
        return gathered

    def _call(self, vector: SubprocessVectorEnv, function: Callable[[], Result]) -> Result:
        try:
            return function()
        except (EOFError, OSError) as error:
            dead = vector.first_dead()
            which = f"process {dead[0]} of its copies ended (exit code {dead[1]})" if dead else str(error)
            raise EnvironmentFault(f"env = {self._name}: {which} at step {self._steps}") from error

    def _finite(self, values: Array, what: str) -> Array:
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            task, trajectory = divmod(int(np.argmin(finite)), self._leading[1])
            when = f"at step {self._steps}" if self._steps else "at its reset"
            raise EnvironmentFault(
                f"env = {self._name}: {what} of task {task}, trajectory {trajectory} is not finite {when}"
            )
        return values

    def _tensor(self, rows: Array) -> Tensor:
        return torch.from_numpy(rows).reshape(*self._leading, *rows.shape[1:]).to(self.device)


def _in_processes(maker: EnvironmentMaker) -> SubprocessVectorEnv:
    count = available_cores()
    try:
        return SubprocessVectorEnv([TaskCopiesMaker(maker, first, count) for first in range(count)])
    except (EOFError, OSError) as error:
        raise TrainingError(
            f"env = {maker.env}: it can't be made in a process of its own, whose traceback is above, though "
            "it can in this one; use vector = sync"
        ) from error


def sampled_tasks(env: str, single: ReplayableEnv, count: int, seed: int) -> Sequence[Any]:
    """What the class's ``sample_tasks`` gives after a reset with ``seed``, checked to be ``count`` tasks."""
    single.reset(seed=seed)
    try:
        tasks = single.get_wrapper_attr("sample_tasks")(count)
    except Exception as error:
        raise TrainingError(
            f"env = {env}: sample_tasks({count}) raised {type(error).__name__}: {one_line(error)}"
        ) from error
    length = _length(tasks)
    if length == count and not isinstance(tasks, dict):
        return list(tasks)
    gave = type(tasks).__name__ if length is None else f"{length} in a {type(tasks).__name__}"
    raise TrainingError(
        f"env = {env}: sample_tasks({count}) gave {gave}: must be a sequence of {count} tasks"
    )


def _length(tasks: Any) -> int | None:
    """Of a sequence; ``None`` for what is none."""
    if isinstance(tasks, str | bytes) or not hasattr(tasks, "__getitem__"):
        return None
    try:
        return len(tasks)
    except TypeError:  # of an array without dimensions, among others
        return None


def make_gymnasium_family(
    env: str, path: str, arguments: dict[str, Any], vector: str, device: torch.device
) -> GymnasiumFamily:
    """The family of the environment at ``path``, called ``env`` in messages.

    ``max_episode_steps`` among the arguments is the horizon, unless the environment's constructor takes
    it. Raises :class:`TrainingError` for an environment that can't be made, has no tasks, no end, or
    spaces that a policy can't read.
    """
    source = find_environment(path)
    arguments = dict(arguments)
    limit = arguments.get(_LIMIT)
    if not isinstance(source, EnvSpec) and _LIMIT not in accepted_arguments(source):
        arguments.pop(_LIMIT, None)
    maker = EnvironmentMaker(env, source, arguments, frame_stack=1)
    single = maker.first()
    try:
        _check_tasks(env, single)
        horizon = _horizon(env, single, limit)
        kind = _kind(vector, maker)
        return GymnasiumFamily(maker, single, horizon, kind, device)
    except BaseException:
        single.close()
        raise


def _check_tasks(env: str, single: ReplayableEnv) -> None:
    signatures = {"sample_tasks": "sample_tasks(n)", "set_task": "set_task(task)"}
    if missing := [said for name, said in signatures.items() if not single.has_wrapper_attr(name)]:
        raise TrainingError(
            f"env = {env}: it has no {' and no '.join(missing)}; a family's class has both, "
            "to draw n tasks and to become one of them"
        )
    drawn = [sampled_tasks(env, single, 2, seed=0) for _ in range(2)]
    try:
        first, again = (pickle.dumps(tasks) for tasks in drawn)
    except Exception as error:
        raise TrainingError(
            f"env = {env}: sample_tasks gave what can't be pickled ({one_line(error)}), as it must be to "
            "travel between processes; make tasks of numbers, arrays, lists and dicts"
        ) from error
    if first != again:
        logger.warning(
            "env = %s: sample_tasks gave other tasks after a reset with the same seed, so this run can't be "
            "repeated or resumed exactly; let it draw from self.np_random",
            env,
        )


def _horizon(env: str, single: ReplayableEnv, given: Any) -> int:
    spec = single.spec
    found = [given, spec and spec.max_episode_steps]
    # TimeLimit keeps its own under the second name.
    found += [single.get_wrapper_attr(n) for n in (_LIMIT, f"_{_LIMIT}") if single.has_wrapper_attr(n)]
    limit = next((steps for steps in found if steps is not None), None)
    if limit is None:
        raise TrainingError(
            f"env = {env}: nothing says after how many steps an episode ends; "
            f"set env_arg {_LIMIT}=200, say, or an attribute {_LIMIT} of the class"
        )
    if isinstance(limit, bool) or not isinstance(limit, numbers.Integral) or limit < 1:
        raise TrainingError(f"env_arg = {_LIMIT}={limit}: must be a whole number of at least 1")
    return int(limit)


def _kind(vector: str, maker: EnvironmentMaker) -> str:
    if vector != "auto":
        return vector
    cores = available_cores()
    measured = maker()
    try:
        tasks = sampled_tasks(maker.env, measured, 1, seed=0)
        set_task(maker.env, measured, tasks[0], 0)
        # A process steps its share as if it were one environment, and is sent one message for all of it.
        share = seconds_per_step(measured) * _SMALL_ROLLOUT / cores
    finally:
        measured.close()
    return faster_kind(share, cores, cores)
