"""How a run is run, whatever its trainer: options of the worker, declared as hyperparameters are."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.declarations import declare


@dataclass
class RunOptions:
    """Options that change nothing of the results."""

    pace: float | None = declare(
        "float", None, "at most this many iterations per second, for demonstrations", above=0, maximum=10_000,
        scale="log", step=10, optional=True,
    )  # fmt: skip
    on_nan: str = declare(
        "choice", "pause", "when a loss or gradient is not finite: wait for a person, or save and fail",
        choices=("pause", "stop"),
    )  # fmt: skip
    stop_signal: str = declare(
        "choice", "USR1", "a signal that saves and ends the run as TERM does; Slurm's --signal sends it",
        choices=("USR1", "USR2", "none"), changes="never",
    )  # fmt: skip
    paused: bool = declare("bool", False, "start paused", changes="never")
