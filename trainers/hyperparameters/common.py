"""What every trainer's set-up has."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.declarations import declare

MOST = 10**15
"""Of what is counted: more than any machine does, few enough to be exact in a float."""


@dataclass
class Setup:
    """What a run trains with, whatever the trainer; fixed for the whole run."""

    seed: int = declare(
        "int", 1, "seed of every generator of the run", minimum=0, maximum=2**63 - 1, changes="never"
    )
    device: str = declare("text", "cpu", "cpu, cuda or cuda:N", changes="fork")
    threads: int = declare(
        "int",
        1,
        "threads that torch may use; small networks gain nothing from a second",
        minimum=1,
        maximum=1024,
        changes="fork",
    )
