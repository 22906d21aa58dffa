"""Checkpoints: a trainer's state after an iteration, in a folder that is either whole or not there.

A checkpoint is written to a temporary folder, made durable, and renamed; its manifest, written last, has
the SHA-256 of each file. Tensors are in safetensors, numbers in JSON: reading one executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from metarl_tui.runs.files import (
    is_own_folder,
    make_folder,
    read_bounded,
    reason,
    sync_folder,
    write_atomically,
    write_new,
)
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.text import clean
from trainers.reading import MOST_OF_A_CHECKPOINT

MOST_AUTOMATIC = 64

_WEIGHTS, _TENSORS, _NUMBERS = "weights.safetensors", "state.safetensors", "state.json"
_MANIFEST = "manifest.json"
_FILES = (_WEIGHTS, _TENSORS, _NUMBERS)
_NAME = re.compile(r"\d{8,12}")
_TEMPORARY = ".tmp-"
_LARGEST_MANIFEST = 1 << 16


class DamagedCheckpoint(RunError):
    """A checkpoint that is not as it was written. ``path`` is its folder, ``iteration`` its number."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"checkpoint {clean(path.name, 40)} is damaged: {what}")
        self.path = path
        self.what = what

    @property
    def iteration(self) -> int:
        return int(self.path.name)


@dataclass
class Contents:
    """What a checkpoint holds: arrays by name, and JSON values."""

    weights: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    tensors: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: the state after ``iteration``."""

    path: Path
    iteration: int

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Raises :class:`DamagedCheckpoint`."""
        return _read_manifest(self.path)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was made, each once; nothing for a damaged one."""
        try:
            return tuple(self.manifest["reasons"])
        except DamagedCheckpoint:
            return ()

    @property
    def reason(self) -> str:
        """The reasons in words: ``automatic, best``."""
        return ", ".join(self.reasons)

    @property
    def size(self) -> int:
        """Bytes, as the manifest has them; 0 for a damaged one."""
        try:
            return sum(entry["bytes"] for entry in self.manifest["files"].values())
        except DamagedCheckpoint:
            return 0


def save(folder: RunFolder, iteration: int, contents: Contents, reason: str) -> Checkpoint:
    """Write the state after ``iteration``; one that is there already and whole only gains the reason.

    Raises :class:`OSError` when the disk is full: older checkpoints stay whole and nothing is left
    behind. Raises :class:`TypeError` for arrays or numbers that can't be stored.
    """
    make_folder(folder.checkpoints)
    _remove_leftovers(folder)
    path = folder.checkpoints / f"{iteration:08d}"
    if path.is_dir() and (kept := _with_reason(path, reason)) is not None:
        return kept
    data = {
        _WEIGHTS: _pack(contents.weights),
        _TENSORS: _pack(contents.tensors),
        _NUMBERS: json.dumps(contents.numbers, separators=(",", ":")).encode(),
    }
    manifest = {
        "format": 1,
        "iteration": iteration,
        "reasons": [reason],
        "files": {name: {"bytes": len(part), "sha256": _digest(part)} for name, part in data.items()},
    }
    temporary = folder.checkpoints / f"{_TEMPORARY}{secrets.token_hex(4)}"
    try:
        make_folder(temporary)
        for name, part in data.items():
            write_new(temporary / name, part)
        write_new(temporary / _MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        sync_folder(temporary)
        if path.exists():  # damaged: it makes room only now that its successor is whole
            path.rename(folder.checkpoints / f"{_TEMPORARY}{secrets.token_hex(4)}")
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.checkpoints)
    return Checkpoint(path, iteration)


def listed(folder: RunFolder) -> list[Checkpoint]:
    """All checkpoints, oldest first, damaged ones included; none where the folder can't be read.

    Links are passed over, in the folder's place too: what is renamed and removed stays inside the run.
    """
    if not is_own_folder(folder.checkpoints):
        return []
    try:
        entries = [entry for entry in folder.checkpoints.iterdir() if _NAME.fullmatch(entry.name)]
    except OSError:
        return []
    found = [Checkpoint(entry, int(entry.name)) for entry in entries if is_own_folder(entry)]
    return sorted(found, key=lambda checkpoint: checkpoint.iteration)


def load(checkpoint: Checkpoint) -> Contents:
    """What ``checkpoint`` holds, after its checksums were compared. Raises :class:`DamagedCheckpoint`."""
    files = _read_manifest(checkpoint.path)["files"]
    data = {name: _read_checked(checkpoint.path, name, files[name]) for name in _FILES}
    try:
        numbers = json.loads(data[_NUMBERS])
        if not isinstance(numbers, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(checkpoint.path, f"{_NUMBERS}: {clean(error, 120)}") from None
    weights, tensors = (_unpack(checkpoint.path, name, data[name]) for name in (_WEIGHTS, _TENSORS))
    return Contents(weights, tensors, numbers)


def newest_good(
    folder: RunFolder, at_most: int | None = None
) -> tuple[Checkpoint, Contents, list[DamagedCheckpoint]] | None:
    """The newest checkpoint (of an iteration ``at_most``) that is whole, and the newer ones that are not."""
    damaged: list[DamagedCheckpoint] = []
    for checkpoint in reversed(listed(folder)):
        if at_most is not None and checkpoint.iteration > at_most:
            continue
        try:
            return checkpoint, load(checkpoint), damaged
        except DamagedCheckpoint as error:
            damaged.append(error)
    return None


def thin(folder: RunFolder, keep: Collection[int] = (), at_most: int = MOST_AUTOMATIC) -> list[int]:
    """Remove automatic checkpoints beyond ``at_most``, so that what stays is spread evenly over iterations.

    The first, the last two, the newest ``best``, those ``asked`` for, where a fork ``forked`` and the
    iterations in ``keep`` always stay. Returns the iterations removed. Raises :class:`OSError`.
    """
    found = listed(folder)
    if len(found) <= at_most:
        return []
    always = set(keep) | {checkpoint.iteration for checkpoint in (found[0], *found[-2:])}
    best = [checkpoint.iteration for checkpoint in found if "best" in checkpoint.reasons]
    wanted = {checkpoint.iteration for checkpoint in found if {"asked", "forked"} & set(checkpoint.reasons)}
    always |= wanted | set(best[-1:])
    removed = []
    while sum(checkpoint.iteration not in always for checkpoint in found) > at_most:
        # Without the one whose neighbours are closest to each other the gaps stay the most even.
        _, index = min(
            (found[index + 1].iteration - found[index - 1].iteration, index)
            for index in range(1, len(found) - 1)
            if found[index].iteration not in always
        )
        checkpoint = found.pop(index)
        remove(folder, checkpoint)
        removed.append(checkpoint.iteration)
    return removed


def remove(folder: RunFolder, checkpoint: Checkpoint) -> None:
    """Remove a checkpoint; a reader finds it whole or not at all. Raises :class:`OSError`."""
    aside = folder.checkpoints / f"{_TEMPORARY}{secrets.token_hex(4)}"
    checkpoint.path.rename(aside)
    shutil.rmtree(aside)


def set_aside_above(folder: RunFolder, iteration: int) -> list[int]:
    """Rename the checkpoints of later iterations to ``<name>.damaged``; the iterations they were of.

    A run that goes on from ``iteration`` writes these iterations anew. Those that stood there could not be
    read, which may have been the disk's fault and not theirs. Raises :class:`OSError`.
    """
    later = [checkpoint for checkpoint in listed(folder) if checkpoint.iteration > iteration]
    for checkpoint in later:
        aside = checkpoint.path.with_name(f"{checkpoint.path.name}.damaged")
        if aside.exists():
            shutil.rmtree(aside)
        checkpoint.path.rename(aside)
    return [checkpoint.iteration for checkpoint in later]


def _remove_leftovers(folder: RunFolder) -> None:
    for entry in folder.checkpoints.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(entry, ignore_errors=True)


def _with_reason(path: Path, reason: str) -> Checkpoint | None:
    """The checkpoint at ``path`` with one reason more, or ``None`` where it is damaged."""
    checkpoint = Checkpoint(path, int(path.name))
    try:
        load(checkpoint)
    except DamagedCheckpoint:
        return None
    if reason not in checkpoint.reasons:
        manifest = {**checkpoint.manifest, "reasons": [*checkpoint.reasons, reason]}
        write_atomically(path / _MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return Checkpoint(path, checkpoint.iteration)


def _pack(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    # safetensors writes an array's memory as it lies: one in another order would come back permuted.
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        return safetensors.save(ordered)
    except SafetensorError as error:
        raise TypeError(f"arrays that can't be stored: {error}") from error


def _unpack(path: Path, name: str, data: bytes) -> dict[str, npt.NDArray[Any]]:
    try:
        return safetensors.load(data)
    except Exception as error:  # whatever a malformed file makes the library raise, it is damage
        raise DamagedCheckpoint(path, f"{name}: {clean(error, 120)}") from None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_checked(path: Path, name: str, entry: dict[str, Any]) -> bytes:
    try:
        data = read_bounded(path / name, entry["bytes"])
    except OSError as error:
        raise DamagedCheckpoint(path, f"{name}: {reason(error)}") from None
    if len(data) != entry["bytes"] or _digest(data) != entry["sha256"]:
        raise DamagedCheckpoint(path, f"{name} has a wrong checksum")
    return data


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(read_bounded(path / _MANIFEST, _LARGEST_MANIFEST))
    except OSError as error:
        raise DamagedCheckpoint(path, f"{_MANIFEST}: {reason(error)}") from None
    except ValueError as error:
        raise DamagedCheckpoint(path, f"{_MANIFEST}: {clean(error, 120)}") from None
    if not _is_manifest(found, path):
        raise DamagedCheckpoint(path, f"{_MANIFEST} does not fit the checkpoint")
    found["reasons"] = [clean(word, 40) for word in found["reasons"]]
    return dict(found)


def _is_manifest(found: Any, path: Path) -> bool:
    if not isinstance(found, dict) or found.get("format") != 1 or found.get("iteration") != int(path.name):
        return False
    files, reasons = found.get("files"), found.get("reasons")
    if not isinstance(files, dict) or set(files) != set(_FILES):
        return False
    if not isinstance(reasons, list) or not all(isinstance(word, str) for word in reasons):
        return False
    return all(
        isinstance(entry, dict)
        and type(entry.get("bytes")) is int
        and 0 <= entry["bytes"] <= MOST_OF_A_CHECKPOINT
        and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )
