"""The run screen as an SVG picture, without a terminal."""

from __future__ import annotations

import asyncio
import os
import time

from metarl_tui.app.app import MetarlApp
from metarl_tui.app.screens.run import RunScreen
from metarl_tui.runs.folder import RunError, RunFolder

_LONGEST_WAIT_SECONDS = 120.0


def screenshot(
    folder: RunFolder, *, width: int = 150, height: int = 44, at: int | None = None, ascii: bool = False
) -> str:
    """SVG of ``width`` × ``height`` cells with the playhead at iteration ``at``, by default at the newest.

    Raises :class:`RunError` when the run can't be read, or not within two minutes.
    """
    os.environ.pop("NO_COLOR", None)  # it speaks of terminals, and this is a picture
    return asyncio.run(_screenshot(folder, width, height, at, ascii))


async def _screenshot(folder: RunFolder, width: int, height: int, at: int | None, ascii_only: bool) -> str:
    app = MetarlApp(folder.path.parent, run=folder, refresh=20.0, ascii=ascii_only)
    async with app.run_test(size=(width, height)) as pilot:
        screen = app.screen
        assert isinstance(screen, RunScreen)
        end = time.monotonic() + _LONGEST_WAIT_SECONDS
        while screen.follower is None or not (screen.follower.complete and screen.follower.standing):
            if time.monotonic() > end:
                raise RunError(f"run {folder.title} could not be read within {_LONGEST_WAIT_SECONDS:g} s")
            await asyncio.sleep(0.02)
        screen.show_iteration(at)
        await pilot.pause()
        assert screen.grid is not None
        screen.grid.settle()
        await pilot.pause()
        return app.export_screenshot(title=f"metarl-tui {folder.title}")
