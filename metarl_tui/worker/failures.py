"""An exception that ends a run: in words for people, and whole in the run's log."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from metarl_tui.runs.files import open_private, reason, shown
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.text import clean
from trainers.trainer import TrainingError


def in_words(error: BaseException) -> str:
    """What is told of ``error``: of a :class:`TrainingError` its text, of any other its type too.

    Of what the system says of a file it is that file, and why.
    """
    if isinstance(error, OSError) and isinstance(error.filename, str):
        return f"{shown(error.filename)}: {reason(error)}"
    text = clean(error)
    if isinstance(error, TrainingError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def with_place(error: BaseException) -> str:
    """:func:`in_words`, and where it was raised: for a folder that is removed with its log."""
    frames = traceback.extract_tb(error.__traceback__)
    names_file = isinstance(error, OSError) and error.filename is not None
    if isinstance(error, TrainingError) or names_file or not frames:
        return in_words(error)
    last = frames[-1]
    return f"{in_words(error)} (in {last.name}, {clean(last.filename)} line {last.lineno})"


def log_traceback(folder: RunFolder) -> None:
    """Add the traceback of the exception that is being handled to the run's log, if that can be written."""
    with suppress(OSError):
        descriptor = open_private(folder.log, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as log:
            log.write(traceback.format_exc())


@contextmanager
def taking_over(folder: RunFolder, iteration: int) -> Iterator[None]:
    """Say of the checkpoint of ``iteration``, whole as it is, that it holds what can't be taken over.

    Raises :class:`RunError` for what that makes a trainer raise, unless it has said it for people itself.
    """
    try:
        yield
    except TrainingError:
        raise
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        log_traceback(folder)
        what = f"it has no {clean(error)}" if isinstance(error, KeyError) else in_words(error)
        raise RunError(
            f"checkpoint {iteration:08d} does not fit this version of the trainer or of the environment: "
            f"{what}; move its folder away to go on from an earlier one"
        ) from error
