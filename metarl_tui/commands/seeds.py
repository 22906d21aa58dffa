"""``train … --seeds 1-5``: a run for each seed, in one group, as many at a time as there are cores."""

from __future__ import annotations

import os
import re
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from metarl_tui.commands.auto import FINISHED, beginning, newest_like, standing_of
from metarl_tui.commands.common import CommandError, command_line, hint, say
from metarl_tui.commands.starting import (
    COULD_NOT_START,
    Where,
    ignore_signals,
    remove_untrained,
    signals_held,
    until_started,
)
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.runs.groups import find_group
from metarl_tui.runs.run_config import LONGEST_NAME
from metarl_tui.runs.summary import read as read_summary
from metarl_tui.text import short_number
from trainers.declarations import InvalidValue

if TYPE_CHECKING:
    from metarl_tui.launch import GroupLaunch

MOST_SEEDS = 1000
_LARGEST = 2**63 - 1
_LEAVE_SECONDS = 15.0
_PART = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?", re.ASCII)


def parse_seeds(text: str) -> list[int]:
    """``1-5``, ``1,3,7`` or both. Raises :class:`InvalidValue`."""
    refusal = InvalidValue(
        "seeds", text, "must be whole numbers and ranges, each at most once, as in 1-5 or 1,3"
    )
    seeds: list[int] = []
    for part in text.split(","):
        found = _PART.fullmatch(part.strip())
        if not found or int(found[2] or found[1]) > _LARGEST:
            raise refusal
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first >= MOST_SEEDS:
            raise refusal if last < first else InvalidValue("seeds", text, f"at most {MOST_SEEDS} at once")
        seeds += range(first, last + 1)
    if len(set(seeds)) != len(seeds):
        raise refusal
    if len(seeds) > MOST_SEEDS:
        raise InvalidValue("seeds", text, f"at most {MOST_SEEDS} at once")
    return seeds


def train_group(config: RunConfig, seeds: list[int], where: Where, *, resume: bool) -> int:
    """Train a run for every one of ``seeds``; the exit code.

    With ``resume`` runs of the group that are there already are gone on with; 2 is then also the exit code
    where one of them is trained by others. Raises :class:`CommandError`, :class:`InvalidValue` and
    :class:`RunError`; then no folder stays that was made.
    """
    if where.json and where.no_ui:
        raise CommandError("--json is for one run; the runs of --seeds each have their journal")
    group = _Group()
    turn = beginning(where.runs_dir)  # before signals are held: it may be waited for
    with signals_held() as let_signals_end:
        try:
            with turn:
                name = _group_name(config, where.runs_dir, resume)
                group.gather(replace(config, group=name), seeds, where.runs_dir, resume)
            let_signals_end()
            group.leave_out_what_stands()
            code = 0
            if group.members:
                most = max(_cores() // int(config.setup.get("threads", 1)) - group.busy, 1)
                train = _in_foreground if where.no_ui else _in_background
                code = train(group, most, where)
        except BaseException:
            if not any(folder.launched.exists() for folder in group.made):
                group.remove_untrained()
            raise
    return max(code, COULD_NOT_START) if group.busy else code


@dataclass
class _Group:
    """The runs to train, and those among them that were made for it."""

    members: list[RunFolder] = field(default_factory=list)
    made: list[RunFolder] = field(default_factory=list)
    busy: int = 0
    """How many others train that should have been gone on with."""

    def gather(self, config: RunConfig, seeds: list[int], runs_dir: Path, resume: bool) -> None:
        """Find the runs, with ``resume``, and make those that are not there. Raises :class:`RunError`."""
        for seed in seeds:
            setup = {**config.setup, "seed": seed}
            member = replace(config, setup=setup, name=f"{config.group} seed {seed}")
            found = newest_like(runs_dir, member) if resume else None
            if found is None:
                found = RunFolder.create(runs_dir, member)
                self.made.append(found)
            self.members.append(found)

    def leave_out_what_stands(self) -> None:
        """Say which of those found are finished, or trained by others; the rest is to be trained."""
        for folder in [folder for folder in self.members if folder not in self.made]:
            standing = standing_of(folder)
            if standing.alive or standing.state in FINISHED:
                self.busy += standing.alive
                self.members.remove(folder)
                seed = folder.config.setup.get("seed")
                say(f"seed {seed}  {folder.short_id}  {standing.state} already", err=standing.alive)

    def remove_untrained(self) -> None:
        """Remove the folders of those made that never began to train."""
        for folder in self.made:
            remove_untrained(folder)


def _group_name(config: RunConfig, runs_dir: Path, resume: bool) -> str:
    if resume and not config.name:
        raise CommandError("--resume auto of several --seeds needs --name, by which the group is found again")
    name = config.name
    if not name:
        subject = re.sub(r"[^a-z0-9]+", "-", config.subject.lower()).strip("-")
        name = f"{config.trainer}-{subject[:24]}-{secrets.token_hex(2)}"
    if len(name) > LONGEST_NAME - 30:
        raise InvalidValue("name", name, f"with --seeds at most {LONGEST_NAME - 30} characters")
    if any(name in (run.title, run.id, run.short_id) for run in list_runs(runs_dir)):
        raise InvalidValue("name", name, "a run has this name, and would hide the group; choose another")
    if not resume and find_group(runs_dir, name):
        again = "--resume auto goes on with it"
        raise InvalidValue("name", name, f"there is a group of this name; choose another, or {again}")
    return name


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _in_foreground(group: _Group, most: int, where: Where) -> int:
    from metarl_tui.supervisor import Supervisor

    try:
        return Supervisor(group.members, most, attended=False, tell=_tell).run()
    finally:
        group.remove_untrained()


def _tell(folder: RunFolder, what: str, code: int | None) -> None:
    summary = read_summary(folder) if code is not None else None
    best = (
        f"; best {summary.objective} {short_number(summary.best)}"
        if summary and summary.best is not None
        else ""
    )
    with suppress(OSError):  # nobody reads it any more; what trains goes on
        say(f"seed {folder.config.setup.get('seed')}  {folder.short_id}  {what}{best}")


def _in_background(group: _Group, most: int, where: Where) -> int:
    """Let a supervisor of its own session train the members; come back when the first of them trains."""
    from metarl_tui.launch import start_group

    try:
        until_started(lambda: start_group(group.members, most), _end, only_tells=where.detach)
    except BaseException:
        group.remove_untrained()
        raise
    if where.detach:
        _print(group.members, where.json)
        ignore_signals()
        return 0
    from metarl_tui.commands.screens import show_screen

    return show_screen(where.runs_dir, **where.screen)


def _end(launch: GroupLaunch) -> None:
    launch.terminate()  # it passes that on to the workers
    launch.end(timeout=_LEAVE_SECONDS)


def _print(members: list[RunFolder], json: bool) -> None:
    name = members[0].config.group
    if json:
        runs = [{"id": folder.id, "path": str(folder.path.resolve())} for folder in members]
        sys.stdout.write(orjson.dumps({"group": name, "runs": runs}).decode() + "\n")
        return
    say(name)
    hint(f"{command_line('show', name)} shows how it stands")
