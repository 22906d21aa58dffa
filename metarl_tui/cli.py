"""The entry point. ``--help`` is answered from a table; everything else goes to the click group."""

from __future__ import annotations

import sys

from metarl_tui.commands import PROGRAM, help_page


def main() -> None:
    """Run the program on ``sys.argv``. Always ends with :class:`SystemExit`."""
    for stream in (sys.stdout, sys.stderr):
        # Symbols such as → and ε must not end the program on a terminal that can't encode them.
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if sys.argv[1:] in (["--help"], ["-h"]):
        sys.stdout.write(help_page() + "\n")
        sys.exit(0)
    from metarl_tui.commands.group import group

    group.main(prog_name=PROGRAM)
