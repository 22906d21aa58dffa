"""A run's whole journal as a tape, for whatever looks at a run once and does not follow it."""

from __future__ import annotations

from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import JournalReader
from metarl_tui.tape import Tape


def read_tape(folder: RunFolder) -> Tape:
    """All that the journal of ``folder`` holds now; what can't be read of it is left out.

    The tape starts from the run's hyperparameters and options. Raises
    :class:`~metarl_tui.runs.folder.RunError` when the run's configuration can't be read.
    """
    tape = Tape({**folder.config.hyperparameters, **folder.config.options})
    reader = JournalReader(folder.journal)
    while (records := reader.read()) or not reader.at_end:
        tape.extend(records)
    return tape
