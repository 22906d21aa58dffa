"""``train … --seeds 1-5``: a run for each seed, in one group, as many at a time as there are cores."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson

from metarl_tui.commands.auto import FINISHED, newest_like
from metarl_tui.commands.common import CommandError, command_line, hint, say
from metarl_tui.commands.starting import Where, remove
from metarl_tui.runs.files import open_private
from metarl_tui.runs.folder import LONGEST_NAME, RunConfig, RunFolder
from metarl_tui.runs.groups import find_group
from metarl_tui.runs.journal import JournalReader
from metarl_tui.runs.liveness import observe
from metarl_tui.runs.summary import read as read_summary
from metarl_tui.text import short_number
from trainers.declarations import InvalidValue

MOST_SEEDS = 1000
_LARGEST = 2**63 - 1
_LEAVE_SECONDS = 15.0
_PART = re.compile(r"(\d+)(?:-(\d+))?")


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

    With ``resume`` runs of the group that are there already are gone on with. Raises :class:`CommandError`,
    :class:`InvalidValue` and :class:`RunError`; then no folder stays that was made.
    """
    name = _group_name(config, where.runs_dir, resume)
    if where.json and where.no_ui:
        raise CommandError("--json is for one run; the runs of --seeds each have their journal")
    members: list[RunFolder] = []
    made: list[RunFolder] = []
    for seed in seeds:
        member = replace(config, setup={**config.setup, "seed": seed}, name=f"{name} seed {seed}", group=name)
        found = newest_like(where.runs_dir, member) if resume else None
        if (
            found is not None
            and (standing := observe(found))
            and (standing.alive or standing.state in FINISHED)
        ):
            say(f"seed {seed}  {found.short_id}  {standing.state} already")
            continue
        if found is None:
            found = RunFolder.create(where.runs_dir, member)
            made.append(found)
        members.append(found)
    if not members:
        return 0
    most = max(_cores() // int(config.setup.get("threads", 1)), 1)
    if where.no_ui:
        return _in_foreground(members, made, most)
    return _in_background(name, members, made, most, where)


def _group_name(config: RunConfig, runs_dir: Path, resume: bool) -> str:
    if resume and not config.name:
        raise CommandError("--resume auto of several --seeds needs --name, by which the group is found again")
    name = config.name
    if not name:
        subject = re.sub(r"[^a-z0-9]+", "-", config.subject.lower()).strip("-")
        name = f"{config.trainer}-{subject[:24]}-{secrets.token_hex(2)}"
    if len(name) > LONGEST_NAME - 30:
        raise InvalidValue("name", name, f"with --seeds at most {LONGEST_NAME - 30} characters")
    if not resume and find_group(runs_dir, name):
        again = "--resume auto goes on with it"
        raise InvalidValue("name", name, f"there is a group of this name; choose another, or {again}")
    return name


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _in_foreground(members: list[RunFolder], made: list[RunFolder], most: int) -> int:
    from metarl_tui.supervisor import Supervisor

    try:
        return Supervisor(members, most, attended=False, tell=_tell).run()
    finally:
        _remove_untrained(made)


def _tell(folder: RunFolder, what: str, code: int | None) -> None:
    summary = read_summary(folder) if code is not None else None
    best = (
        f"; best {summary.objective} {short_number(summary.best)}"
        if summary and summary.best is not None
        else ""
    )
    with suppress(OSError):  # nobody reads it any more; what trains goes on
        say(f"seed {folder.config.setup.get('seed')}  {folder.short_id}  {what}{best}")


def _in_background(
    name: str, members: list[RunFolder], made: list[RunFolder], most: int, where: Where
) -> int:
    """Let a supervisor of its own session train the members; come back when the first of them trains."""
    from metarl_tui.launch import Launch

    first = members[0]
    reader = JournalReader(first.journal)
    reader.seek_end()
    command = [sys.executable, "-P", "-m", "metarl_tui.supervisor", "--most", str(most)]
    command += ["--trusted"] if first.config.names_code else []
    descriptor = open_private(first.log, os.O_WRONLY | os.O_APPEND)
    try:
        process = subprocess.Popen(
            [*command, *(str(folder.path.resolve()) for folder in members)],
            stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(descriptor)
    try:
        Launch(first, process, reader).wait()
    except BaseException:
        process.terminate()  # it passes that on to the workers
        _wait_for_end(process)
        _remove_untrained(made)
        raise
    if where.detach:
        _print(name, members, where.json)
        return 0
    from metarl_tui.commands.screens import show_screen

    return show_screen(where.runs_dir, **where.screen)


def _wait_for_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remove_untrained(made: Iterable[RunFolder]) -> None:
    """Remove the folders of runs that never began to train."""
    for folder in made:
        records = JournalReader(folder.journal).read()
        if not any(record.get("state") in ("started", "stopped") for record in records):
            remove(folder)


def _print(name: str, members: Iterable[RunFolder], json: bool) -> None:
    if json:
        runs = [{"id": folder.id, "path": str(folder.path.resolve())} for folder in members]
        sys.stdout.write(orjson.dumps({"group": name, "runs": runs}).decode() + "\n")
        return
    say(name)
    hint(f"{command_line('show', name)} shows how it stands")
