"""The supervisor of a group's runs: some at a time, a signal for all, what waits for its turn."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from programs import states

from metarl_tui.launch import StartFailed
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder, acquire_lock
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import NEVER_STARTED, NO_TURN, WAITS, Standing, observe
from metarl_tui.runs.process import write_launched
from metarl_tui.runs.requests import send
from metarl_tui.supervisor import Supervisor


class FakeLaunch:
    """A worker that trains until it is let go; ``alive`` holds those that do."""

    alive: list[FakeLaunch] = []  # noqa: RUF012
    most = 0

    def __init__(self, folder: RunFolder, refusal: str = "") -> None:
        self.folder, self.refusal, self.exit_code, self.told = folder, refusal, None, False
        FakeLaunch.alive.append(self)
        FakeLaunch.most = max(FakeLaunch.most, len(FakeLaunch.alive))

    def check(self) -> str:
        if self.refusal:
            raise StartFailed(self.refusal)
        return "started"

    def end(self, code: int) -> None:
        self.exit_code = code
        FakeLaunch.alive.remove(self)

    def terminate(self) -> None:
        self.told = True
        self.end(143)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> type[FakeLaunch]:
    FakeLaunch.alive, FakeLaunch.most = [], 0
    monkeypatch.setattr("metarl_tui.supervisor.start", lambda folder, attended: FakeLaunch(folder))
    return FakeLaunch


def test_no_more_are_trained_at_a_time_than_asked_and_all_are(
    make_run: Any, launches: type[FakeLaunch], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [make_run() for _ in range(5)]
    told: list[tuple[str, int | None]] = []

    def sleep(seconds: float) -> None:
        if launches.alive:
            launches.alive[0].end(0 if len(told) % 2 else 1)

    monkeypatch.setattr("metarl_tui.supervisor.time.sleep", sleep)
    supervisor = Supervisor(
        members, 2, attended=True, tell=lambda run, what, code: told.append((run.id, code))
    )
    assert supervisor.run() == 1
    assert launches.most == 2
    assert [run for run, code in told if code is None] == [run.id for run in members]
    assert len([run for run, code in told if code is not None]) == 5


def test_a_signal_reaches_every_worker_and_no_other_is_started(
    make_run: Any, launches: type[FakeLaunch], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [make_run() for _ in range(4)]
    monkeypatch.setattr(
        "metarl_tui.supervisor.time.sleep",
        lambda seconds: len(launches.alive) == 2 and os.kill(os.getpid(), signal.SIGTERM),
    )
    started: list[RunFolder] = []
    supervisor = Supervisor(
        members, 2, attended=True, tell=lambda run, what, code: code is None and started.append(run)
    )
    assert supervisor.run() == 143
    assert started == members[:2]
    assert not launches.alive


@pytest.mark.parametrize("name", ["USR1", "USR2"])
def test_the_members_own_signal_ends_them_all(
    runs_dir: Path, launches: type[FakeLaunch], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    members = [RunFolder.create(runs_dir, RunConfig("ppo", options={"stop_signal": name})) for _ in range(2)]
    number = signal.Signals[f"SIG{name}"]
    monkeypatch.setattr("metarl_tui.supervisor.time.sleep", lambda seconds: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    supervisor = Supervisor(members, 2, attended=True, tell=lambda run, what, code: None)
    assert supervisor.run() == 128 + number
    assert not launches.alive
    assert signal.getsignal(number) == before


def test_what_has_trained_before_and_can_not_start_keeps_none_of_the_others(
    make_run: Any, launches: type[FakeLaunch], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [make_run(), make_run(), make_run()]

    def start(folder: RunFolder, attended: bool) -> FakeLaunch:
        if folder == members[1]:
            raise RunError("no")
        return FakeLaunch(folder, "not either" if folder == members[0] else "")

    monkeypatch.setattr("metarl_tui.supervisor.start", start)
    monkeypatch.setattr("metarl_tui.supervisor.time.sleep", lambda seconds: launches.alive[-1].end(0))
    told: list[tuple[RunFolder, str]] = []
    supervisor = Supervisor(members, 1, attended=True, tell=lambda run, what, code: told.append((run, what)))
    assert supervisor.run() == 2
    assert told[:3] == [
        (members[0], "not started: not either"), (members[1], "not started: no"), (members[2], "started"),
    ]  # fmt: skip
    members.pop()
    supervisor = Supervisor(members, 1, attended=True, tell=lambda run, what, code: None)
    with pytest.raises(RunError, match="not either"):
        supervisor.run()
    members[0].journal.unlink()
    supervisor = Supervisor(members, 1, attended=True, tell=lambda run, what, code: told.append((run, what)))
    told.clear()
    with pytest.raises(RunError, match="not either"):
        supervisor.run()
    assert told == []


def test_what_waits_for_its_turn_is_starting_and_can_be_stopped(
    make_run: Any, runs_dir: Path, launches: type[FakeLaunch], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, waiting = make_run(), make_run()
    waiting.worker.unlink()
    waiting.journal.unlink()

    def sleep(seconds: float) -> None:
        if launches.alive and not list(waiting.requests.iterdir()) and not states(waiting):
            assert observe(waiting).state == "starting"
            send(waiting, "stop")
        elif launches.alive and states(waiting):
            launches.alive[0].end(0)

    monkeypatch.setattr("metarl_tui.supervisor.time.sleep", sleep)
    assert Supervisor([first, waiting], 1, attended=True, tell=lambda run, what, code: None).run() == 0
    assert states(waiting) == ["stopped"]
    assert not list(waiting.requests.iterdir())


@pytest.mark.parametrize(("waits", "why"), [(True, NO_TURN), (False, NEVER_STARTED)])
def test_what_was_to_start_a_run_and_is_gone_leaves_it_lost_at_once(
    make_run: Any, waits: bool, why: str
) -> None:
    run = make_run()
    run.worker.unlink()
    run.journal.unlink()
    there = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    write_launched(run, there.pid, waits=waits)
    assert observe(run) == Standing("starting", WAITS if waits else "", 0, True)
    there.communicate()
    assert observe(run) == Standing("lost", why, 0, False)
    with acquire_lock(run), Journal(run.journal):
        pass


class Patient(FakeLaunch):
    """A worker that finishes its iteration when told to end, unless it is to leave at once."""

    def terminate(self) -> None:
        self.told = True

    def interrupt(self) -> None:
        assert self.told
        self.end(143)


@pytest.mark.parametrize(("second", "leaves"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_second_ctrl_c_has_every_worker_leave_at_once(
    make_run: Any, launches: type[FakeLaunch], monkeypatch: pytest.MonkeyPatch, second: int, leaves: bool
) -> None:
    turns: list[int] = []
    left: list[bool] = []

    def sleep(seconds: float) -> None:
        if len(launches.alive) < 2:
            return
        turns.append(0)
        if len(turns) < 3:
            os.kill(os.getpid(), (signal.SIGINT, second)[len(turns) - 1])
        else:
            left.append(not launches.alive)
            for launch in list(launches.alive):
                launch.end(143)

    monkeypatch.setattr("metarl_tui.supervisor.start", lambda folder, attended: Patient(folder))
    monkeypatch.setattr("metarl_tui.supervisor.time.sleep", sleep)
    supervisor = Supervisor([make_run(), make_run()], 2, attended=True, tell=lambda run, what, code: None)
    assert supervisor.run() == 130
    assert left == ([] if leaves else [False])


def test_a_stop_that_others_may_have_asked_for_is_not_carried_out(
    make_run: Any, launches: type[FakeLaunch], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, waiting = make_run(), make_run()

    def sleep(seconds: float) -> None:
        if not list(waiting.requests.iterdir()):
            send(waiting, "stop")
            waiting.path.chmod(0o777)
        elif launches.alive:
            launches.alive[0].end(0)

    monkeypatch.setattr("metarl_tui.supervisor.time.sleep", sleep)
    ends: list[RunFolder] = []
    supervisor = Supervisor(
        [first, waiting], 1, attended=True, tell=lambda run, what, code: code is None or ends.append(run)
    )
    supervisor.run()
    assert ends == [first, waiting]
    assert len(states(waiting)) == 2
