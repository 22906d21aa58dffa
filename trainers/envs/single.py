"""One environment: found by its name, made, and refused in one line where it cannot be trained on."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeAlias, cast

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator, parse_env_id, registry
from gymnasium.wrappers import FrameStackObservation

from trainers.declarations import format_value
from trainers.envs.replay import ReplayableEnv
from trainers.envs.spaces import check_spaces, one_line
from trainers.envs.subprocesses import prepare_subprocess
from trainers.trainer import TrainingError

Env: TypeAlias = gymnasium.Env[Any, Any]
Source: TypeAlias = EnvSpec | Callable[..., Any]
logger = logging.getLogger(__name__)

_WHAT_TO_NAME = "name a subclass of gymnasium.Env or a function that returns one"


@dataclass(frozen=True)
class EnvironmentMaker:
    """Makes environment number ``index``; called in the process where the environment is to live.

    It carries what :func:`find_environment` found, so that an environment which only the trainer's
    process has registered can be made in another.
    """

    env: str
    source: Source
    env_arg: dict[str, Any]
    frame_stack: int
    index: int = 0
    owner: int = field(default_factory=os.getpid)
    """Process id of the trainer; in any other process the call takes the precautions of a subprocess."""

    def __call__(self) -> ReplayableEnv:
        in_subprocess = self.owner != os.getpid()
        if in_subprocess:
            prepare_subprocess()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once, by first()
            return self._wrapped(self._make(), in_subprocess)

    def first(self) -> ReplayableEnv:
        """An environment to ask for its spaces. What Gymnasium warns of is logged.

        Raises :class:`TrainingError`, in one line, when the environment cannot be made with these
        arguments or its spaces are not supported.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            environment = self._make()
        for text in dict.fromkeys(str(warning.message) for warning in caught):
            logger.warning("%s", re.sub(r"\x1b\[\d+m", "", text))
        check_spaces(self.env, environment.observation_space, environment.action_space)
        return self._wrapped(environment, False)

    def _wrapped(self, environment: Env, in_subprocess: bool) -> ReplayableEnv:
        if self.frame_stack > 1:
            environment = FrameStackObservation(environment, self.frame_stack)
        return ReplayableEnv(environment, self.env, self.index, in_subprocess)

    def _make(self) -> Env:
        try:
            if isinstance(self.source, EnvSpec):
                environment = gymnasium.make(self.source, disable_env_checker=True, **self.env_arg)
            else:
                environment = self.source(**self.env_arg)
        except Exception as error:
            raise _cannot_make(self, error) from error
        if not isinstance(environment, gymnasium.Env):
            raise TrainingError(f"env = {self.env}: it makes a {type(environment).__name__}; {_WHAT_TO_NAME}")
        return environment


def find_environment(env: str) -> Source:
    """The registered specification, class or function that ``env`` names.

    ``env`` is a Gymnasium id, ``module:id`` whose module registers it, or ``package.module:Class``.
    Raises :class:`TrainingError` with the nearest names.
    """
    module_name, colon, name = env.rpartition(":")
    module = _import(env, module_name) if colon else None
    found = getattr(module, name, None)
    if found is not None:
        if callable(found) and not (isinstance(found, type) and not issubclass(found, gymnasium.Env)):
            return cast(Callable[..., Any], found)
        raise TrainingError(f"env = {env}: {name} is a {type(found).__name__}; {_WHAT_TO_NAME}")
    latest = _latest_version(name)
    if name in registry:
        if latest != name:
            logger.warning("env = %s: this version is out of date; the latest is %s", env, latest)
        return registry[name]
    if latest is not None and parse_env_id(name)[2] is None:
        logger.warning("env = %s: taken for its latest version, %s", env, latest)
        return registry[latest]
    raise _unknown(env, module, name)


def _latest_version(name: str) -> str | None:
    try:
        namespace, base, _ = parse_env_id(name)
    except gymnasium.error.Error:
        return None
    versions = [spec for spec in registry.values() if (spec.namespace, spec.name) == (namespace, base)]
    return max(versions, key=lambda spec: spec.version or 0).id if versions else None


def _import(env: str, module_name: str) -> Any:
    if not module_name or module_name.endswith(".py") or "/" in module_name:
        raise TrainingError(f"env = {env}: write package.module:Class, without .py and with dots for slashes")
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise TrainingError(
                f"env = {env}: no module named {error.name}; "
                "it is looked for in the working folder and among installed packages"
            ) from error
        raise TrainingError(
            f"env = {env}: {module_name} needs the module {error.name}, which is not installed"
        ) from error
    except TrainingError:
        raise
    except Exception as error:
        raise TrainingError(
            f"env = {env}: importing {module_name} failed: {type(error).__name__}: {one_line(error)}"
        ) from error


def _unknown(env: str, module: ModuleType | None, name: str) -> TrainingError:
    if name.startswith("ALE/") and module is None:
        return TrainingError(
            f"env = {env}: Atari games are in another package; pip install ale-py, then ale_py:{name}"
        )
    if module is None:
        near = _nearest(name)
        hint = f"did you mean {_either(near)}?" if near else "name an id or package.module:Class"
        return TrainingError(f"env = {env}: no such Gymnasium environment; {hint}")
    classes = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, gymnasium.Env)
    ]
    near = [
        f"{module.__name__}:{key}" for key in difflib.get_close_matches(name, classes, 3, 0.4) or classes[:3]
    ]
    near = near or _nearest(name)
    hint = f"; did you mean {_either(near)}?" if near else ""
    return TrainingError(f"env = {env}: {module.__name__} has no {name} and registers no such id{hint}")


def _nearest(name: str) -> list[str]:
    """Registered ids like ``name``, the latest version of each first."""
    by_name: dict[str, list[tuple[int, str]]] = {}
    for key, spec in registry.items():
        by_name.setdefault(key.partition("-v")[0].lower(), []).append((spec.version or 0, key))
    wanted = name.partition("-v")[0].lower()
    near = difflib.get_close_matches(wanted, by_name, n=3, cutoff=0.7)
    if not near and len(wanted) > 3:
        near = [other for other in by_name if wanted in other]
    return [max(by_name[other])[1] for other in near][:3]


def _cannot_make(maker: EnvironmentMaker, error: Exception) -> TrainingError:
    message = one_line(error)
    match error:
        case gymnasium.error.DependencyNotInstalled():
            extra = re.search(r"gymnasium\[[\w, -]+\]", message)
            missing = re.split(r",| \(|; ", message)[0]
            reason = f'{missing}; pip install "{extra[0]}"' if extra else message
        case ModuleNotFoundError():
            reason = f"it needs the module {error.name or message}, which is not installed"
        case TypeError():
            return _refused_arguments(maker, error)
        case _:
            reason = f"it can't be made: {type(error).__name__}: {message}"
    return TrainingError(f"env = {maker.env}: {reason}")


def _refused_arguments(maker: EnvironmentMaker, error: TypeError) -> TrainingError:
    reason = one_line(error).partition(" was raised from the environment creator")[0]
    if not maker.env_arg:
        return TrainingError(f"env = {maker.env}: it can't be made: {reason}")
    accepted = accepted_arguments(maker.source)
    hint = f"; it takes {', '.join(accepted)}" if accepted else ""
    return TrainingError(f"env_arg = {format_value(maker.env_arg)}: {maker.env} refuses: {reason}{hint}")


def accepted_arguments(source: Source) -> list[str]:
    """Names of the arguments that a specification's class, a class or a function takes."""
    creator: Any = source.entry_point if isinstance(source, EnvSpec) else source
    try:
        parameters = inspect.signature(
            load_env_creator(creator) if isinstance(creator, str) else creator
        ).parameters
    except (TypeError, ValueError):
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in parameters.items() if parameter.kind in named]


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
