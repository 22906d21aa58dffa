"""From a run's configuration to its trainer."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch

from metarl_tui.runs.folder import RunConfig, RunError
from metarl_tui.text import clean
from trainers.declarations import make_settings
from trainers.hyperparameters import TRAINERS
from trainers.trainer import Trainer

_PACKAGES = ("metarl-tui", "torch", "gymnasium", "numpy")


def build_trainer(config: RunConfig, decisions: Mapping[str, Any] | None = None) -> Trainer:
    """The trainer that ``config`` describes; ``decisions`` are setup fields as an earlier start decided them.

    Raises :class:`~trainers.declarations.InvalidValue` and :class:`~trainers.trainer.TrainingError` with a
    message for people, :class:`RunError` for a trainer that this version does not know.
    """
    find_environments_of(config)
    entry = TRAINERS.get(config.trainer)
    if entry is None:
        raise RunError(f"trainer = {config.trainer}: this version knows {', '.join(TRAINERS)}")
    setup: Any = make_settings(entry.setup, {**config.setup, **(decisions or {})})
    if data_of(config):
        setup.data = data_of(config)
    hyperparameters: Any = make_settings(entry.hyperparameters, config.hyperparameters)
    module, _, name = entry.implementation.partition(":")
    return cast(Trainer, getattr(importlib.import_module(module), name)(setup, hyperparameters))


def find_environments_of(config: RunConfig) -> None:
    """Let ``package.module:Class`` be found in the folder where the run was begun, after all else.

    For other runs that folder stays out: an installed package may look for a module that it can do without.
    """
    if config.names_code and config.working_folder and config.working_folder not in sys.path:
        sys.path.append(config.working_folder)


def data_of(config: RunConfig) -> str:
    """The set-up's ``data``; a relative path is taken from where the run was begun, if it is there."""
    data = str(config.setup.get("data", ""))
    there = Path(config.working_folder) / data
    return str(there) if data and there.exists() else data


def versions() -> dict[str, str]:
    """Versions of what a run's numbers depend on."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    found["cpu"] = f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def machine() -> dict[str, str]:
    """Versions, and the name of this machine: all that may make numbers differ by themselves."""
    return versions() | {"host": platform.node()}


def _processor() -> str:
    """The processor's name, which says how it rounds; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return clean(next(names, platform.processor()), 120)
