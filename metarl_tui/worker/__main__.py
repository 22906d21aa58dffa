"""``python -m metarl_tui.worker RUN``: train a run in this process, without a terminal.

Exit codes: 0 finished or stopped as asked, 1 failed, 2 could not start, 128 + n ended by signal n.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from pathlib import Path

from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.requests import sender
from metarl_tui.worker.interruption import Interruption


def main() -> int:
    """Train; what can't be journaled is said on standard error, which is the run's log."""
    parser = argparse.ArgumentParser(prog="metarl_tui.worker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--changes", type=json.loads, default=None)
    parser.add_argument("--trusted", metavar="DIGEST", default="")
    parser.add_argument("--unattended", action="store_true")
    arguments = parser.parse_args()
    interruption = Interruption().install()
    from metarl_tui.worker.loop import AskedAtStart, train

    asked = None
    if arguments.changes:
        asked = AskedAtStart(
            arguments.changes["values"],
            bool(arguments.changes.get("rebase")),
            secrets.token_hex(6),
            sender(),
        )
    try:
        folder = RunFolder(arguments.folder, trusted=arguments.trusted)
        return train(folder, interruption, attended=not arguments.unattended, asked=asked)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
