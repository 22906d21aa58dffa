"""Asking before code that somebody else's run names is imported."""

from __future__ import annotations

import sys

import click

from metarl_tui.commands.common import Function, say
from metarl_tui.runs.folder import RunFolder


def trust_option(function: Function) -> Function:
    """``--trust``: the command gets it as ``trust``, for :func:`settle_trust`."""
    text = "run the code that a run from somebody else names, without being asked"
    return click.option("--trust", is_flag=True, help=text)(function)


def settle_trust(folder: RunFolder, trust: bool) -> None:
    """Ask whether the code that ``folder`` names may run, unless its reader named it or has agreed to it.

    Raises :class:`~metarl_tui.runs.folder.NotTrusted` where nobody can be asked, :class:`click.Abort` where
    the answer is no, and :class:`~metarl_tui.runs.folder.RunError` where others may write to the run.
    """
    if folder.config.trusted:
        return
    folder.check_private()
    if not trust:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            folder.check_trusted()
        say(
            f"run {folder.short_id} was not begun by you here. It would run {folder.code_in_words}.", err=True
        )
        click.confirm("Do you trust whoever it came from?", abort=True, err=True)
    folder.trust()
