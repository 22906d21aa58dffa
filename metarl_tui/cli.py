"""The entry point. ``--help`` is answered from a table; everything else goes to the click group."""

from __future__ import annotations

import os
import sys

from metarl_tui.commands import PROGRAM, help_page


def main() -> None:
    """Run the program on ``sys.argv``. Always ends with :class:`SystemExit`."""
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # Symbols such as → and ε must not end the program on a terminal that can't encode them.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if sys.argv[1:] in (["--help"], ["-h"]):
        sys.stdout.write(help_page() + "\n")
        sys.exit(0)
    from metarl_tui.commands.program import group

    group.main(prog_name=PROGRAM)


def _replace_closed_streams() -> None:
    """Put the null device where a shell has closed a standard stream (``>&-``).

    Otherwise the next file to be opened, a journal maybe, would take its number and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
