"""Many environments side by side behind one interface, whichever of Gymnasium's vector classes runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Self, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv

from trainers.envs.replay import EnvironmentFault, SavedEpisode
from trainers.envs.subprocesses import SubprocessVectorEnv
from trainers.randomness import numpy_state, restore_numpy, seed_for

__all__ = ["EnvironmentFault", "Environments", "Kind", "ReplayedEnvironments", "Step"]

Array: TypeAlias = npt.NDArray[Any]
Kind: TypeAlias = Literal["native", "sync", "async"]
Result = TypeVar("Result")


class Step(NamedTuple):
    """What one step of N environments gave.

    A row after one that was done is a dummy: its action was ignored, its observation is the first of the
    next episode, its reward 0, and it is not done (Gymnasium's next-step autoreset). The observation of a
    done row is the episode's final one.
    """

    observations: Array
    """[N, …], dtype of the observation space, C-contiguous and the caller's own."""
    rewards: npt.NDArray[np.float64]
    """[N]"""
    terminated: npt.NDArray[np.bool_]
    """[N]"""
    truncated: npt.NDArray[np.bool_]
    """[N]"""


class Environments:
    """N environments that step together.

    ``observation_space`` and ``action_space`` are those of one environment, ``latest`` is what reset,
    step or restore gave last (after a reset rewards are 0 and nothing is done), ``reward_threshold`` the
    mean return at which Gymnasium calls the environment solved, or ``None``. ``continued`` [N] tells which
    environments went on with their episode at the latest :meth:`restore`; the others began a new one.
    """

    kind: Kind
    observation_space: spaces.Box
    action_space: spaces.Discrete | spaces.MultiDiscrete | spaces.Box
    latest: Step
    continued: npt.NDArray[np.bool_]
    made_of: Mapping[str, Any] = {}
    """Id and arguments of the environment, as JSON values; a state of another one can't be gone on from."""

    def __init__(self, name: str, vector: VectorEnv[Any, Any, Any], kind: Kind, seed: int) -> None:
        self.name, self.kind, self.num_envs = name, kind, vector.num_envs
        self.observation_space = cast(spaces.Box, vector.single_observation_space)
        self.action_space = cast(spaces.Discrete, vector.single_action_space)
        self.reward_threshold: float | None = None
        self._vector: VectorEnv[Any, Any, Any] = vector
        self._seed = seed
        self._steps = 0

    def reset(self, seed: int | None = None) -> Array:
        """Begin new episodes everywhere; their first observations [N, …].

        The generators are seeded from ``seed``, by default the one given to :func:`make_environments`, so
        every reset with the same seed is followed by the same episodes. Raises :class:`EnvironmentFault`.
        """
        self._steps = 0
        observations = self._reset_vector(self._seed if seed is None else seed)
        nothing = np.zeros(self.num_envs, np.bool_)
        return self._take(observations, np.zeros(self.num_envs), nothing, nothing.copy()).observations

    def step(self, actions: Array) -> Step:
        """One step with ``actions`` [N, …], elements of the action space.

        Raises :class:`EnvironmentFault` when an environment raises, ends its process, or gives a reward or
        observation that is not finite in float32, which is what networks compute with.
        """
        self._steps += 1
        return self._take(*self._call(lambda: self._vector.step(self._for_environment(actions)))[:4])

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Arrays and JSON values that :meth:`restore` takes back, in this process or another."""
        raise NotImplementedError

    def restore(self, tensors: Mapping[str, Array], numbers: Mapping[str, Any]) -> str | None:
        """Go on from a state. Returns why the continuation may not be exact, or ``None``.

        A state of other environments (a fork with another number of them) begins new episodes.
        """
        if numbers.get("made_of", self.made_of) != self.made_of:
            return self._begin_anew(f"of {numbers['made_of']['env']} with its arguments")
        if (numbers["num_envs"], numbers["kind"] == "native") != (self.num_envs, self.kind == "native"):
            return self._begin_anew(f"of {numbers['num_envs']} ({numbers['kind']})")
        self.continued = np.ones(self.num_envs, np.bool_)
        reason = self._restore(tensors, numbers)
        self._steps = numbers["steps"]
        return reason and f"resumed, not exact: {reason}"

    def close(self) -> None:
        """Close the environments and end their processes."""
        self._vector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_anew(self, state_of: str) -> str:
        self.reset()
        self.continued = np.zeros(self.num_envs, np.bool_)
        return (
            f"resumed, not exact: {self.num_envs} environments ({self.kind}) begin new episodes, "
            f"because the state is {state_of}"
        )

    def _restore(self, tensors: Mapping[str, Array], numbers: Mapping[str, Any]) -> str | None:
        raise NotImplementedError

    def _reset_vector(self, seed: int) -> Array:
        raise NotImplementedError

    def _numbers(self) -> dict[str, Any]:
        numbers = {"kind": self.kind, "num_envs": self.num_envs, "steps": self._steps}
        return numbers | ({"made_of": dict(self.made_of)} if self.made_of else {})

    def _for_environment(self, actions: Array) -> Array:
        if actions.dtype.kind == "f" and not np.isfinite(actions).all():
            index = int(np.argmin(np.isfinite(actions).reshape(self.num_envs, -1).all(axis=1)))
            raise EnvironmentFault(
                f"env = {self.name}: the action for environment {index} is not finite at step {self._steps}"
            )
        # A copy, because an environment may write into its action.
        return np.array(actions, self.action_space.dtype)

    def _take(self, observations: Array, rewards: Array, terminated: Array, truncated: Array) -> Step:
        # Contiguous, because matrix products round differently for transposed memory.
        step = Step(
            np.ascontiguousarray(observations), np.asarray(rewards, np.float64), terminated, truncated
        )
        self._check_finite(step)
        self.latest = step
        return step

    def _check_finite(self, step: Step) -> None:
        if not (finite := _finite(step.rewards)).all():
            index = int(np.argmin(finite))
            raise self._not_finite(index, "a reward of", step.rewards[index])
        if step.observations.dtype.kind == "f" and not (finite := _finite(step.observations)).all():
            finite = finite.reshape(self.num_envs, -1)
            index = int(np.argmin(finite.all(axis=1)))
            where = int(np.argmin(finite[index]))
            value = step.observations[index].reshape(-1)[where]
            raise self._not_finite(index, f"an observation whose component {where} is", value)

    def _not_finite(self, index: int, what: str, value: float) -> EnvironmentFault:
        when = f"at step {self._steps}" if self._steps else "at its reset"
        limit = ", more than float32 holds" if np.isfinite(value) else ""
        return EnvironmentFault(f"env = {self.name}: environment {index} gave {what} {value} {when}{limit}")

    def _call(self, function: Callable[[], Result]) -> Result:
        return function()


class CartPoles(Environments):
    """Gymnasium's NumPy CartPole, all environments in one array; its state is its arrays and generator."""

    _ARRAYS = ("state", "steps", "prev_done")
    _LATEST = ("rewards", "terminated", "truncated")

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        tensors = {name: np.array(getattr(self._vector, name)) for name in self._ARRAYS}
        tensors |= {f"latest_{name}": np.array(getattr(self.latest, name)) for name in self._LATEST}
        return tensors, self._numbers() | {"generator": numpy_state(self._vector.np_random)}

    def _restore(self, tensors: Mapping[str, Array], numbers: Mapping[str, Any]) -> None:
        self.reset()
        for name in self._ARRAYS:
            setattr(self._vector, name, np.array(tensors[name]))
        restore_numpy(self._vector.np_random, numbers["generator"])
        observations = tensors["state"].T.astype(self.observation_space.dtype)
        self._take(observations, *(np.array(tensors[f"latest_{name}"]) for name in self._LATEST))

    def _check_finite(self, step: Step) -> None:
        """An episode ends long before its numbers grow."""

    def _reset_vector(self, seed: int) -> Array:
        observations, _ = self._vector.reset(seed=seed)
        return cast(Array, observations)


class ReplayedEnvironments(Environments):
    """Environments one by one (``sync``, ``async``); their state is their episodes, to be replayed."""

    _vector: SyncVectorEnv | SubprocessVectorEnv

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        episodes: tuple[SavedEpisode, ...] = self._call(lambda: self._vector.call("saved"))
        tensors = {
            "actions": _narrowed(np.concatenate([episode.actions for episode in episodes])),
            "lengths": np.array([len(episode.actions) for episode in episodes], np.int64),
        }
        numbers = self._numbers() | {
            "episodes": [
                {"seed": episode.seed, "generators": episode.generators, "digest": episode.digest}
                for episode in episodes
            ]
        }
        return tensors, numbers

    def _restore(self, tensors: Mapping[str, Array], numbers: Mapping[str, Any]) -> str | None:
        actions = tensors["actions"].astype(self.action_space.dtype)
        parts = np.split(actions, np.cumsum(tensors["lengths"])[:-1])
        episodes = [
            SavedEpisode(actions=part, **episode)
            for part, episode in zip(parts, numbers["episodes"], strict=True)
        ]
        self.reset()  # no environment may be waiting for its autoreset: the next step is the replay
        self._call(lambda: self._vector.set_attr("resuming", episodes))
        ignored = np.zeros((self.num_envs, *(self.action_space.shape or ())), self.action_space.dtype)
        self._take(*self._call(lambda: self._vector.step(ignored))[:4])
        self.continued = np.array(self._call(lambda: self._vector.call("continued")), np.bool_)
        differences = enumerate(self._call(lambda: self._vector.call("difference")))
        different = [f"environment {index} {text}" for index, text in differences if text]
        if not different:
            return None
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        return f"env = {self.name}: {different[0]}{more}"

    def _reset_vector(self, seed: int) -> Array:
        # 31 bits, because some simulators keep their seed in a signed integer of 32.
        seeds = [seed_for(seed, "environment", index) >> 32 for index in range(self.num_envs)]
        return cast(Array, self._call(lambda: self._vector.reset(seed=cast(Any, seeds)))[0])

    def _call(self, function: Callable[[], Result]) -> Result:
        try:
            return function()
        except (EOFError, OSError) as error:
            if not isinstance(self._vector, SubprocessVectorEnv):
                raise
            dead = self._vector.first_dead()
            which = f"environment {dead[0]}'s process ended (exit code {dead[1]})" if dead else str(error)
            raise EnvironmentFault(f"env = {self.name}: {which} at step {self._steps}") from error


def _finite(numbers: Array) -> npt.NDArray[np.bool_]:
    """Whether each number is finite in float32."""
    with np.errstate(over="ignore"):
        finite: npt.NDArray[np.bool_] = np.isfinite(numbers.astype(np.float32, copy=False))
    return finite


def _narrowed(actions: Array) -> Array:
    """Integers in the smallest type that holds them all; other arrays as they are."""
    if not np.issubdtype(actions.dtype, np.integer) or not actions.size:
        return actions
    low, high = actions.min(), actions.max()
    for dtype in (np.uint8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return actions.astype(dtype)
    return actions
