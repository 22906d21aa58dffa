"""Going on exactly: the newest good checkpoint, and the steering that came after it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.journal import JournalReader, Record
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.records import metric_values
from metarl_tui.runs.states import ENDED
from metarl_tui.worker.control import Change, Control, superseded
from trainers.settings import LiveSettings
from trainers.trainer import Iteration, State, Trainer

_DECIDED = ("vector", "threads")
TIMES = "time/"
"""How the keys of metrics begin that are never the same."""
NOT_EXACT = "resumed, not exact: "
"""How a trainer's reason begins for which a continuation may differ."""


@dataclass(frozen=True)
class Difference:
    """Where training again first differs. A value is ``None`` where the metric was not measured."""

    iteration: int
    metric: str
    recorded: float | str | None
    now: float | str | None

    def __str__(self) -> str:
        return f"{self.metric} was {_shown(self.recorded)} and is {_shown(self.now)}"


@dataclass
class History:
    """What the journal says of the run so far."""

    records: int = 0
    decisions: dict[str, Any] = field(default_factory=dict)
    """Setup fields as the first start decided them."""
    answered: set[str] = field(default_factory=set)
    """Ids of the requests that have been answered."""
    changes: list[Change] = field(default_factory=list)
    """Changes that people had applied and not replaced since, each once, in order."""
    applied: list[Record] = field(default_factory=list)
    """Every control record that changed something, planned or by hand."""
    started: list[Record] = field(default_factory=list)
    """What each worker said it runs on."""
    resumes: list[tuple[int, int]] = field(default_factory=list)
    """Number of each ``resumed`` record, and the iteration from which the run went on."""
    last: int = 0
    """The newest iteration that has a row which counts."""
    inexact: list[str] = field(default_factory=list)
    """Why the run may not be what its seed and journal say, as it was journaled."""
    damaged: int = 0
    """Journal records that can't be read."""
    ended: dict[str, Any] | None = None
    """The newest status, where it says how the run ended."""


@dataclass
class Past:
    """Where a run goes on: after ``iteration``, with ``state`` unless it starts from its seed."""

    iteration: int = 0
    state: State | None = None
    worker: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_history(folder: RunFolder) -> History:
    """Read the journal from its beginning."""
    history = History()
    reader = JournalReader(folder.journal)
    seen: set[str] = set()
    for record in records_of(reader):
        history.records += 1
        if record["kind"] == "control" and record["request"]:
            history.answered.add(record["request"])
        match record["kind"]:
            case "metrics":
                history.last = max(history.last, record["iteration"])
            case "resumed":
                history.resumes.append((record["seq"], record["from"]))
                history.last = min(history.last, record["from"])
            case "note" if record["text"].startswith(NOT_EXACT):
                history.inexact.append(f"iteration {record['iteration']}: {record['text']}")
            case "status":
                history.ended = record if record.get("state") in ENDED else None
                if record.get("state") == "started":
                    history.started.append(record)
                    history.decisions = history.decisions or _decisions(record)
            case "control" if record["result"] == "applied" and record["changes"]:
                history.applied.append(record)
                change = _change_of(record)
                if change.request and change.request not in seen:
                    seen.add(change.request)
                    history.changes = _replacing(history.changes, change)
    history.damaged = reader.damaged
    return history


def rows_that_count(folder: RunFolder, resumes: list[tuple[int, int]]) -> Iterator[Record]:
    """The metrics rows of the run's course, in order; not those that a resume dropped (``resumes``)."""
    last = 0
    ahead = deque(resumes)
    for record in records_of(JournalReader(folder.journal)):
        while ahead and record["seq"] >= ahead[0][0]:
            ahead.popleft()
        if record["kind"] != "metrics" or record["iteration"] <= last:
            continue
        if all(record["iteration"] <= start for _, start in ahead):
            last = record["iteration"]
            yield record


def records_of(reader: JournalReader) -> Iterator[Record]:
    """Every record that can be read from where ``reader`` stands."""
    while (records := reader.read()) or not reader.at_end:
        yield from records


def first_difference(row: Record, done: Iteration, seen: set[str]) -> Difference | None:
    """The first metric in the alphabet that is not the same, bit for bit; ``seen`` takes in all of them."""
    if done.number != row["iteration"]:
        return Difference(row["iteration"], "iteration", row["iteration"], done.number)
    recorded, now = row["values"], metric_values(dict(done.metrics))
    for key in sorted(recorded.keys() | now.keys()):
        if key.startswith(TIMES):
            continue
        seen.add(key)
        then, again = recorded.get(key), now.get(key)
        if then != again:
            return Difference(row["iteration"], key, then, again)
    return None


def why_inexact(config: RunConfig, history: History) -> list[str]:
    """Why a run that is trained anew may not be the same, as far as its journal tells."""
    found = []
    if (device := str(config.setup.get("device", "cpu"))) != "cpu":
        found.append(f"it trains on {device}, where no two trainings are the same")
    found += [f"at {note}" for note in history.inexact]
    if history.damaged:
        found.append(f"{history.damaged} records of its journal can't be read, and with them perhaps changes")
    return found


def other_now(started: list[Record], here: Mapping[str, str]) -> list[str]:
    """What the workers that ``started`` ran on and is other ``here``: versions, processor, host."""
    found = []
    for start in started:
        then = {**(start.get("versions") or {}), "host": start.get("host")}
        for name, value in here.items():
            if then.get(name) is not None and str(then[name]) != value:
                found.append(f"{name}: {then[name]} then, {value} now")
    return list(dict.fromkeys(found))


def find_past(folder: RunFolder) -> Past:
    """The newest checkpoint whose checksums hold, and what was found damaged on the way to it.

    Raises :class:`RunError` where there are checkpoints and none of them can be read.
    """
    found = checkpoints.newest_good(folder)
    if found is None:
        if unreadable := checkpoints.listed(folder):
            raise RunError(
                f"none of the {len(unreadable)} checkpoints in {folder.checkpoints} can be read; "
                "move them away to start this run from its beginning"
            )
        return Past()
    checkpoint, contents, damaged = found
    notes = [
        f"checkpoint {other.path.name} is damaged, going on from {checkpoint.path.name} instead"
        for other in damaged
    ]
    worker = dict(contents.numbers.pop("worker", {}))
    state = State(weights=contents.weights, tensors=contents.tensors, numbers=contents.numbers)
    return Past(checkpoint.iteration, state, worker, notes)


def changes_after(iteration: int, planned: list[dict[str, Any]], history: History) -> deque[Change]:
    """Changes due after ``iteration``: the planned ones, then those people made, in order of iteration."""
    plan = [
        Change(item["iteration"], {name: value for name, value in item.items() if name != "iteration"})
        for item in planned
    ]
    due = [change for change in plan + history.changes if change.iteration > iteration]
    return deque(sorted(due, key=lambda change: change.iteration))


def repeating(
    folder: RunFolder, trainer: Trainer, options: LiveSettings[RunOptions], due: deque[Change]
) -> Control:
    """A control that makes the changes ``due`` once more and says nothing of it, because the journal has.

    Its ``begin_iteration`` raises :class:`RunError` for a change that was applied then and is refused now.
    """

    def heard(kind: str, iteration: int, /, **fields: Any) -> None:
        if fields.get("result") == "rejected" and fields.get("request"):
            raise RunError(f"iteration {iteration}: what was applied then is refused now: {fields['why']}")

    return Control(folder, trainer, options, heard, lambda why: "", due)


def _replacing(changes: list[Change], new: Change) -> list[Change]:
    """``changes`` and ``new``, which takes the place of older ones that were to come after it."""
    before = [change for change in changes if change.iteration <= new.iteration]
    after = superseded((change for change in changes if change.iteration > new.iteration), new.values)
    return [*before, new, *after]


def _decisions(record: Record) -> dict[str, Any]:
    """What a start decided. A journal is data: it may not name another environment than run.json does."""
    found = record.get("decisions")
    return {name: found[name] for name in _DECIDED if name in found} if isinstance(found, dict) else {}


def _change_of(record: Record) -> Change:
    return Change(
        record["iteration"],
        {name: pair[1] for name, pair in record["changes"].items()},
        bool(record.get("rebase")),
        str(record["request"]) if record["request"] else None,
        str(record["by"]),
    )


def _shown(value: float | str | None) -> str:
    return "not measured" if value is None else repr(value).strip("'")
