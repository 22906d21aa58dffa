"""An environment's state without pickle: how its episode began, and the actions since.

Copying a simulator's memory is not safe (deepcopy and pickle of MuJoCo silently diverge, those of Box2D
raise), but a deterministic environment can be brought back to where it stood by beginning its episode
again with the same random numbers and taking the same actions. A digest of all that the environment gave
since tells whether it came out the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import traceback
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from trainers.randomness import numpy_state, restore_numpy
from trainers.trainer import TrainingError

Array: TypeAlias = npt.NDArray[Any]
Observed: TypeAlias = tuple[Array, float, bool, bool, dict[str, Any]]

LONGEST_REPLAY = 200_000
"""Actions of one episode that are kept; an episode that is longer is not continued but begun anew."""


class EnvironmentFault(TrainingError):
    """An environment raised, or gave what cannot be trained on. Names environment, index and step."""


class SavedEpisode(NamedTuple):
    """What it takes to bring one environment back to where it stands.

    ``seed`` is that of the latest reset with a seed; ``generators`` the generators' states before the
    episode's reset, or ``None`` where that was the one with the seed; ``actions`` are [T, …] since;
    ``digest`` is of what the environment gave, or empty for an episode that is too long to be replayed.
    """

    seed: int | None
    generators: list[dict[str, Any] | None] | None
    actions: Array
    digest: str


class ReplayableEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records an environment's episode so that it can be saved and replayed; the outermost wrapper.

    Assign a :class:`SavedEpisode` to :attr:`resuming`: the next ``step`` ignores its action, replays the
    episode and returns what its last step had returned. Going through ``step`` is what lets
    Gymnasium's vector environments, in this process or in another, take over the observation and whether
    a reset is due. :attr:`difference` then says how the replay differed, or is ``None``; :attr:`continued`
    tells whether the episode goes on where it stood, rather than a new one.

    Infos are dropped: nobody reads them, and vector environments spend time on merging them.
    """

    resuming: SavedEpisode | None = None
    difference: str | None = None
    continued: bool = True

    def __init__(self, env: gymnasium.Env[Any, Any], name: str, index: int, in_subprocess: bool) -> None:
        super().__init__(env)
        self._name, self._index, self._in_subprocess = name, index, in_subprocess
        space = env.action_space
        self._action_dtype, self._action_shape = space.dtype, space.shape or ()
        self._shape = env.observation_space.shape
        self._seed: int | None = None
        self._begin(None)

    def _begin(self, generators: list[dict[str, Any] | None] | None) -> None:
        self._generators_before = generators
        self._log = bytearray()
        self._length = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode. Raises :class:`EnvironmentFault`."""
        if seed is None:
            self._begin(self._generator_states())
        else:
            self._seed = seed
            self._seed_generators(seed)
            self._begin(None)
        try:
            observation = self._checked(self.env.reset(seed=seed, options=options)[0])
        except Exception as error:
            raise self._fault("in reset", error) from error
        self._digest.update(observation.tobytes())
        self._last: Observed = (observation, 0.0, False, False, {})
        return observation, {}

    def step(self, action: Any) -> Observed:
        """Take one step, or resume (see the class). Raises :class:`EnvironmentFault`."""
        if self.resuming is not None:
            return self._resume()
        if self._length < LONGEST_REPLAY:
            # Before the step, because an environment may alter the array that it is given.
            self._log += np.asarray(action, self._action_dtype).tobytes()
        self._length += 1
        try:
            observation, reward, terminated, truncated, _ = self.env.step(action)
            observation = self._checked(observation)
            self._last = (observation, float(reward), bool(terminated), bool(truncated), {})
        except Exception as error:
            raise self._fault(f"at step {self._length} of its episode", error) from error
        self._digest.update(observation.tobytes() + struct.pack("<d??", *self._last[1:4]))
        return self._last

    def saved(self) -> SavedEpisode:
        """The environment's state."""
        if self._length > LONGEST_REPLAY:
            return SavedEpisode(self._seed, self._generator_states(), self._actions(b""), "")
        return SavedEpisode(
            self._seed, self._generators_before, self._actions(bytes(self._log)), self._digest.hexdigest()
        )

    def _actions(self, log: bytes) -> Array:
        return np.frombuffer(log, self._action_dtype).reshape(-1, *self._action_shape)

    def _resume(self) -> Observed:
        saved, self.resuming = self.resuming, None
        assert saved is not None
        self.difference, self.continued = None, False
        try:
            self._replay(saved)
        except (EnvironmentFault, ValueError) as error:
            self.difference = f"could not be replayed: {error}"
            self.reset(seed=saved.seed)
        else:
            self.continued = bool(saved.digest) and self._length == len(saved.actions)
            if not saved.digest:
                self.difference = f"had an episode of more than {LONGEST_REPLAY:,} steps and begins a new one"
            elif self._digest.hexdigest() != saved.digest:
                self.difference = "gave other observations, rewards or ends when its episode was replayed"
        return self._last

    def _replay(self, saved: SavedEpisode) -> None:
        if saved.seed is not None:
            self.reset(seed=saved.seed)
        if saved.generators is not None:
            for generator, state in zip(self._generators(), saved.generators, strict=True):
                if generator is not None and state is not None:
                    restore_numpy(generator, state)
            self.reset()
        for action in saved.actions:
            if self._last[2] or self._last[3]:
                return  # ended earlier than it had: stepping on is not allowed, and the digest differs
            self.step(action)

    def _generators(self) -> tuple[np.random.Generator | None, ...]:
        # Environments also draw from their spaces, whose generators Gymnasium leaves unseeded.
        base = self.env.unwrapped
        found = (base.np_random, base.observation_space.np_random, base.action_space.np_random)
        return tuple(item if isinstance(item, np.random.Generator) else None for item in found)

    def _generator_states(self) -> list[dict[str, Any] | None]:
        return [None if item is None else numpy_state(item) for item in self._generators()]

    def _seed_generators(self, seed: int) -> None:
        base = self.env.unwrapped
        base.observation_space.seed(seed)
        base.action_space.seed(seed)
        # For environments whose reset() ignores its seed: they would be seeded by the operating system.
        with contextlib.suppress(AttributeError):
            base.np_random = np.random.default_rng(seed)

    def _checked(self, observation: Any) -> Array:
        array = np.asarray(observation)
        if array.shape != self._shape:
            raise ValueError(f"observation of shape {array.shape}, but its space says {self._shape}")
        return array

    def _fault(self, when: str, error: Exception) -> EnvironmentFault:
        message = " ".join(str(error).split())[:300]
        fault = EnvironmentFault(
            f"env = {self._name}: environment {self._index} raised {type(error).__name__} {when}: {message}"
        )
        if self._in_subprocess:  # the cause does not travel between processes, notes do
            fault.add_note("In the environment's process:\n" + traceback.format_exc())
        return fault
