"""A run's whole journal as a tape: read at once, or in turns beside a screen that answers meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from metarl_tui.runs.blocks import Block, JournalBlocks, blocks_if_big
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
    config, journaled = folder.config, last_journaled(folder)
    reading = TapeReading(config, JournalReader(folder.journal), blocks_if_big(folder.journal))
    reading.advance()
    reading.tape.damaged = reading.reader.damaged + reading.reader.missing_before(journaled)
    return reading.tape


class TapeReading:
    """A journal on its way to a tape, with the ``blocks`` of other processes where there are any.

    What they have not read, or not found good, is read here.
    """

    def __init__(self, config: RunConfig, reader: JournalReader, blocks: JournalBlocks | None) -> None:
        self.tape = blank_tape(config)
        self.reader = reader
        self._config = config
        self._helpers = blocks
        self._blocks: Iterator[Block] = iter(blocks or ())

    def advance(self, seconds: float = math.inf) -> bool:
        """Go on for about so long. Whether all is on the tape."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            block = next(self._blocks, None)
            if block is not None:
                self._add(block)
            elif not self._read(SLICE_BYTES) and self.reader.at_end:
                return True
        return False

    def _add(self, block: Block) -> None:
        self._read_up_to(block.start)
        if self.tape.goes_on_with(block) and self.reader.take(block):
            self.tape.add(block)
            if block.start == 0 and self._helpers is not None:
                self.tape.expect(self._helpers.size / block.end)
        else:
            self._read_up_to(block.end)

    def _read_up_to(self, position: int) -> None:
        """Read here what lies before ``position``; an unfinished line is left."""
        before = -1
        while before < self.reader.position < position:
            before = self.reader.position
            self._read(min(position - before, SLICE_BYTES))

    def _read(self, most: int) -> bool:
        """Read at most about so many bytes; whether there were records in them."""
        records = self.reader.read(most)
        if self.reader.restarted:
            self._start_over()
        self.tape.extend(records)
        return bool(records)

    def _start_over(self) -> None:
        """The file is another one: what was read of it no longer counts."""
        self.tape = blank_tape(self._config)
        self._blocks = iter(())
        if self._helpers is not None:
            self._helpers.end()
