"""What every trainer's set-up has, and fields that several trainers declare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainers.declarations import Changes, declare

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
        "threads that PyTorch and NumPy may use; small networks gain nothing from a second",
        minimum=1,
        maximum=1024,
        changes="fork",
    )


def interval(default: int | None, help: str, *, changes: Changes = "live") -> Any:
    """A field: a number of iterations or steps, or off."""
    return declare("int", default, help, minimum=1, maximum=MOST, scale="log", optional=True, changes=changes)


def activation_function(default: str, help: str) -> Any:
    """A field: what follows each hidden layer."""
    return declare("choice", default, help, choices=("tanh", "relu", "elu", "gelu"), changes="never")


def schedule(of: str) -> Any:
    """A field: whether ``of`` goes down by itself."""
    return declare("choice", "linear", f"schedule of {of}", choices=("none", "linear"), changes="fork")


def schedule_floor() -> Any:
    """A field: what remains at the end of a schedule."""
    return declare(
        "float",
        0.1,
        "fraction of the initial value where the schedule ends",
        minimum=0,
        maximum=1,
        step=0.05,
        changes="fork",
    )
