"""A run's whole journal as a tape, for whatever looks at a run once and does not follow it."""

from __future__ import annotations

from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.runs.heartbeat import last_journaled
from metarl_tui.runs.journal import JournalReader
from metarl_tui.tape import Tape
from trainers.hyperparameters import TRAINERS

SLICE_BYTES = 1 << 19
"""What is read of a journal at a time: as much as stays in a processor's cache until it is on the tape."""


def blank_tape(config: RunConfig) -> Tape:
    """The tape of a run that has journaled nothing: its hyperparameters and options as it starts."""
    return Tape({**config.hyperparameters, **config.options}, TRAINERS.get(config.trainer))


def read_tape(folder: RunFolder) -> Tape:
    """All that the journal of ``folder`` holds now; what can't be read of it is left out.

    The tape starts from the run's hyperparameters and options. Raises
    :class:`~metarl_tui.runs.folder.RunError` when the run's configuration can't be read.
    """
    tape = blank_tape(folder.config)
    journaled = last_journaled(folder)
    reader = JournalReader(folder.journal)
    while (records := reader.read(SLICE_BYTES)) or not reader.at_end:
        tape.extend(records)
    tape.damaged = reader.damaged + reader.missing_before(journaled)
    return tape
