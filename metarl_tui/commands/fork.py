"""``fork``: a new run that leaves another after one of its iterations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from metarl_tui.commands.common import (
    CommandError,
    Declared,
    hint,
    run_argument,
    runs_dir_option,
    say,
    screen_options,
)
from metarl_tui.commands.control import settings_of
from metarl_tui.commands.resolve import check_name, check_text
from metarl_tui.commands.resume import BUDGETS, check_more_to_do
from metarl_tui.commands.starting import Where, begin_new, check_name_is_free
from metarl_tui.commands.trust import settle_trust, trust_option
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.liveness import observe
from trainers.declarations import Declaration, Value, declaration_of, declarations

AT = Declaration("at", "int", None, "the iteration after which the fork leaves", minimum=0)


@click.command()
@run_argument
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--at", type=Declared(AT), metavar="N", help=f"{AT.help} RUN; by default the newest")
@click.option("--name", metavar="TEXT", help="a name for the fork, shown and usable as RUN")
@click.option("--no-ui", is_flag=True, help="train in the foreground without the screen")
@click.option(
    "--json",
    is_flag=True,
    help="with --no-ui the journal's lines on standard output, with --detach id and path",
)
@click.option(
    "--detach", is_flag=True, help="train in the background; print the fork's id once it has started"
)
@trust_option
@runs_dir_option
@screen_options
def fork(
    reference: str,
    changes: tuple[str, ...],
    at: int | None,
    name: str | None,
    no_ui: bool,
    json: bool,
    detach: bool,
    trust: bool,
    runs_dir: Path,
    **screen: Any,
) -> int:
    """Start a new run exactly after iteration N of RUN, and open its screen.

    The fork has everything of RUN as it stood there: weights, optimizer, random generators, environments and
    what had been steered. Without changes it trains as RUN went on, bit for bit; RUN may be deleted. All that
    `set` takes can be changed, and number of environments, rollout length, device, schedule, and within equal
    spaces the environment. What was not trained exactly can be forked at its checkpoints only.
    """
    folder = find_run(runs_dir, reference)
    values = parse_fork_changes(changes, folder)
    where = Where(runs_dir, screen, no_ui, json, detach)
    where.check("fork", folder.short_id, *changes, "--no-ui")
    from metarl_tui.worker.fork import plan_fork
    from metarl_tui.worker.forked import forked_at

    plan = plan_fork(folder, at, values, name=check_name(name or ""))
    standing = observe(folder)
    if standing.state == "finished" and (at is None or at >= standing.iteration):
        check_more_to_do(folder, standing, values, "fork")
    _check_budget(plan.done, values)
    settle_trust(folder, trust)
    check_name_is_free(runs_dir, plan.config.name)
    for line in plan.remarks:
        say(line, err=True)
    if detach and plan.start < forked_at(plan.config):
        hint(f"training forward from iteration {plan.start} to {forked_at(plan.config)}, as RUN did")
    return begin_new(lambda: plan.make(runs_dir).folder, where) or 0


def _check_budget(done: int | None, values: Mapping[str, Value]) -> None:
    """Raise :class:`CommandError` for a fork that would have nothing left to do."""
    for name in BUDGETS:
        asked = values.get(name)
        if done is not None and isinstance(asked, int) and asked <= done:
            raise CommandError(f"{name} = {asked}: must be more than the {done} done where the fork leaves")


def parse_fork_changes(pairs: Iterable[str], folder: RunFolder) -> dict[str, Value]:
    """``NAME=VALUE …`` as checked values, each alone; of the environment's arguments those given are added.

    Raises :class:`CommandError` for a pair without ``=`` and :class:`InvalidValue`.
    """
    known: dict[str, Declaration] = {}
    settings = settings_of(folder)
    for part in settings:
        known |= declarations(type(part))
    changes: dict[str, Value] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals or not name:
            raise CommandError(f"{pair}: must be NAME=VALUE, as in num_envs=16")
        declaration = declaration_of(known, name, text)
        value = declaration.parse(text)
        if declaration.kind == "arguments" and isinstance(value, dict):
            before = changes.get(name, getattr(settings[0], name))
            value = {**(before if isinstance(before, dict) else {}), **value}
        check_text(declaration, value)
        changes[name] = value
    return changes
