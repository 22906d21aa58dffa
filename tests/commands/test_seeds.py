"""``--seeds``: a run each in one group, statistics over it, signals that reach all; ``--resume auto``."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metarl_tui.commands import auto, seeds
from metarl_tui.commands.resolve import resolve
from metarl_tui.commands.seeds import parse_seeds, train_group
from metarl_tui.commands.starting import Where
from metarl_tui.launch import StartFailed
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunBusy, RunConfig, RunError, RunFolder, acquire_lock
from metarl_tui.runs.groups import find_group
from metarl_tui.runs.journal import Journal, last_records
from metarl_tui.runs.liveness import Standing, observe
from metarl_tui.runs.process import write_launched
from metarl_tui.runs.requests import send
from metarl_tui.statistics import interquartile_mean, over_runs
from metarl_tui.supervisor import Supervisor
from trainers.declarations import InvalidValue
from trainers.hyperparameters import TRAINERS

ROOT = Path(__file__).parent.parent.parent
SMALL = ("--num-envs", "4", "--rollout-steps", "16", "--minibatch-size", "32", "--hidden-sizes", "8")


def program(runs_dir: Path, *words: str, one_core: bool = False) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "METARL_RUNS_DIR": str(runs_dir)}
    command = [sys.executable, "-m", "metarl_tui", *words]
    if one_core:
        command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=runs_dir.parent,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_until(condition: Any, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def states(folder: RunFolder) -> list[str]:
    return [record["state"] for record in last_records(folder.journal) if record["kind"] == "status"]


@pytest.mark.parametrize(
    ("text", "found"), [("1-5", [1, 2, 3, 4, 5]), ("1,3,7", [1, 3, 7]), ("0, 2-3", [0, 2, 3]), ("4", [4])]
)
def test_seeds_are_ranges_and_numbers(text: str, found: list[int]) -> None:
    assert parse_seeds(text) == found


@pytest.mark.parametrize(
    "text", ["", "a", "1-", "3-1", "1,1", "-2", "1-2000", "1.5", "9999999999999999999", "9" * 5000, "١"]
)
def test_what_are_no_seeds(text: str) -> None:
    with pytest.raises(InvalidValue, match="seeds = "):
        parse_seeds(text)


def test_the_interquartile_mean_leaves_out_the_lowest_and_the_highest_quarter() -> None:
    assert interquartile_mean([100.0, 1.0, 3.0, 2.0]) == 2.5
    assert interquartile_mean([0.0, 1.0, 2.0, 3.0, 100.0]) == 2.0
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0
    assert interquartile_mean(list(range(8))) == 3.5
    with pytest.raises(ValueError, match="no values"):
        interquartile_mean([])


def test_statistics_count_the_runs_that_have_a_number() -> None:
    found = over_runs([{"a": 1, "b": 2.0, "c": "text"}, {"a": 3.0}, {"a": 8.0, "b": math.nan}])
    assert found["a"] == {"median": 3.0, "iqm": 4.0, "runs": 3}
    assert found["b"]["runs"] == 2
    assert math.isnan(found["b"]["median"])
    assert "c" not in found


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


def test_two_seeds_are_trained_and_told_of_and_are_a_group(runs_dir: Path, invoke: Any) -> None:
    runs_dir.mkdir(parents=True)
    words = ("--name", "pair", "--no-ui", "--total-steps", "640", "--eval-every", "5", *SMALL)
    done = program(runs_dir, "train", "ppo", "--seeds", "1-2", *words)
    out, errors = done.communicate(timeout=120)
    assert (done.returncode, errors) == (0, "")
    members = find_group(runs_dir, "pair")
    assert [(run.config.setup["seed"], run.title) for run in members] == [
        (1, "pair seed 1"),
        (2, "pair seed 2"),
    ]
    assert all(states(run)[-1] == "finished" for run in members)
    for run in members:
        assert f"{run.short_id}  started\n" in out
        assert f"{run.short_id}  finished: trained for" in out
    page = json.loads(invoke("show", "pair", "--json").stdout)
    rewards = [json.loads(invoke("show", run.id, "--json").stdout)["metrics"] for run in members]
    mean = sum(row["rollout/ep_rew_mean"] for row in rewards) / 2
    assert page["metrics"]["rollout/ep_rew_mean"] == {"median": mean, "iqm": mean, "runs": 2}
    assert "interquartile mean" in invoke("show", "pair").stdout
    assert invoke("list", "pair").stdout.splitlines()[-1].startswith("best eval/return_mean: median ")
    evaluated = json.loads(invoke("evaluate", "pair", "--episodes", "2", "--json").stdout)
    means = [run["return_mean"] for run in evaluated["runs"]]
    assert evaluated["over_runs"]["return_mean"]["median"] == sum(means) / 2
    again = invoke("train", "ppo", "--seeds", "3", "--name", "pair", "--no-ui")
    assert again.exit_code == 2
    assert "there is a group of this name" in again.stderr
    resumed = invoke("train", "ppo", "--seeds", "1,2", "--resume", "auto", *words)
    assert resumed.exit_code == 0
    assert resumed.stdout.count("finished already") == 2


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_ctrl_c_saves_and_ends_all_of_them_and_what_waited_leaves_nothing(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    words = ("--name", "trio", "--no-ui", "--total-steps", "100000000", *SMALL)
    done = program(runs_dir, "train", "ppo", "--seeds", "1-3", *words, one_core=True)
    wait_until(lambda: any("running" in states(run) for run in list_runs(runs_dir)))
    assert len(list_runs(runs_dir)) == 3
    done.send_signal(signal.SIGINT)
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 130
    (run,) = list_runs(runs_dir)
    assert states(run)[-1] == "stopped"
    assert list(run.checkpoints.iterdir())
    assert "stopped: ended by SIGTERM" in out


def test_behind_the_screen_the_group_trains_on(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    words = ("--detach", "--json", "--total-steps", "640", *SMALL)
    done = program(runs_dir, "train", "ppo", "--seeds", "5-7", *words)
    out, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors
    page = json.loads(out)
    members = find_group(runs_dir, page["group"])
    assert [run.id for run in members] == [run["id"] for run in page["runs"]]
    wait_until(lambda: all(states(run)[-1:] == ["finished"] for run in members))


def test_a_signal_while_it_starts_leaves_none_of_the_group_training(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    words = ("--detach", "--total-steps", "100000000", *SMALL)
    started = program(runs_dir, "train", "ppo", "--seeds", "1-2", *words)
    wait_until(lambda: any(run.launched.exists() for run in list_runs(runs_dir)))
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=60)
    assert started.returncode == 143
    assert processes_of(runs_dir) == []
    assert all(states(run)[-1] == "stopped" for run in list_runs(runs_dir))


def processes_of(runs_dir: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found.append((entry / "cmdline").read_text())
    return [line for line in found if str(runs_dir) in line]


def configured(name: str) -> RunConfig:
    return resolve(TRAINERS["ppo"], {}, name=name)


def test_no_folder_stays_where_one_can_not_be_made(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = RunFolder.create

    def make(runs_dir: Path, config: RunConfig) -> RunFolder:
        if len(list_runs(runs_dir)) == 2:
            raise RunError("No space left on device")
        return create(runs_dir, config)

    monkeypatch.setattr(RunFolder, "create", make)
    with pytest.raises(RunError, match="No space left"):
        train_group(configured("g"), [1, 2, 3], Where(runs_dir, {}, no_ui=True), resume=False)
    assert list_runs(runs_dir) == []


@pytest.mark.parametrize("resume", [False, True])
def test_a_group_is_not_called_as_a_run_is(make_run: Any, runs_dir: Path, resume: bool) -> None:
    run = make_run(name="exp")
    with pytest.raises(InvalidValue, match="name = exp: a run has this name"):
        train_group(configured("exp"), [1, 2], Where(runs_dir, {}, no_ui=True), resume=resume)
    assert list_runs(runs_dir) == [run]


def test_what_others_train_is_said_and_the_rest_is_gone_on_with(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[list[int]] = []

    def train(group: Any, most: int, where: Where) -> int:
        trained.append([run.config.setup["seed"] for run in group.members])
        return 0

    monkeypatch.setattr(seeds, "_in_foreground", train)
    where = Where(runs_dir, {}, no_ui=True)
    assert train_group(configured("g"), [1, 2, 3], where, resume=True) == 0
    stand = {1: Standing("running", "", 1, True), 2: Standing("stopped", "", 1, False),
             3: Standing("finished", "", 1, False)}  # fmt: skip
    monkeypatch.setattr(seeds, "standing_of", lambda run: stand[run.config.setup["seed"]])
    assert train_group(configured("g"), [1, 2, 3], where, resume=True) == 2
    assert trained == [[1, 2, 3], [2]]
    said = capsys.readouterr()
    assert said.err.startswith("seed 1  ")
    assert said.err.endswith("  running already\n")
    assert said.out.endswith("  finished already\n")


def test_a_run_without_a_checkpoint_is_left_out_of_its_groups_evaluation(
    runs_dir: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured("")
    runs = [
        RunFolder.create(runs_dir, replace(config, setup={**config.setup, "seed": seed}, group="g"))
        for seed in (1, 2, 3)
    ]
    bad = {runs[1].id}

    def evaluated(folder: RunFolder, *_: Any) -> dict[str, Any]:
        if folder.id in bad:
            raise RunError("no checkpoint yet")
        return {"run": folder.id, "return_mean": 10.0 * folder.config.setup["seed"]}

    monkeypatch.setattr("metarl_tui.worker.evaluate.evaluate_checkpoint", evaluated)
    result = invoke("evaluate", "g", "--json")
    assert (result.exit_code, result.stderr) == (0, f"{runs[1].short_id} is left out: no checkpoint yet\n")
    page = json.loads(result.stdout)
    assert page["left_out"] == [{"run": runs[1].id, "why": "no checkpoint yet"}]
    assert page["over_runs"] == {"return_mean": {"median": 20.0, "iqm": 20.0, "runs": 2}}
    bad |= {run.id for run in runs}
    result = invoke("evaluate", "g")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("error: no run of g can be evaluated\n")


def test_of_two_that_find_nothing_one_begins_the_run(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = configured("race"), []
    looked = threading.Event()
    find = auto.newest_like

    def look(runs_dir: Path, config: RunConfig) -> RunFolder | None:
        found = find(runs_dir, config)
        looked.set()
        return found

    def go_on() -> None:
        try:
            said.append(auto.go_on_or_begin(config, Where(runs_dir, {}, no_ui=True)))
        except RunBusy as error:
            said.append(str(error))

    monkeypatch.setattr(auto, "newest_like", look)
    monkeypatch.setattr(auto, "begin", lambda folder, where, **how: 0)
    other = threading.Thread(target=go_on)
    with auto.beginning(runs_dir):
        other.start()
        assert looked.wait(10)
        run = RunFolder.create(runs_dir, config)
    other.join()
    assert list_runs(runs_dir) == [run]
    (why,) = said
    assert f"run {run.short_id} of this configuration is starting already" in str(why)


def test_seeds_that_can_not_start_say_why_once_and_leave_nothing(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    for how in ("--no-ui", "--detach"):
        done = program(runs_dir, "train", "ppo", "--env", "CartPol-v1", "--seeds", "1-4", how)
        _, errors = done.communicate(timeout=60)
        assert done.returncode == 2
        assert errors.count("\n") == 1
        assert "CartPole-v1" in errors
        assert list_runs(runs_dir) == []


def test_one_seed_or_several(invoke: Any) -> None:
    result = invoke("train", "ppo", "--seed", "1", "--seeds", "1-2", "--no-ui")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --seed is one seed and --seeds are several: choose one\n",
    )


def test_resume_auto_begins_then_goes_on_then_is_content(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    words = ("train", "ppo", "--name", "job", "--no-ui", "--resume", "auto", "--total-steps", "1280", *SMALL)
    job = program(runs_dir, *words, "--pace", "8")
    wait_until(lambda: any("running" in states(run) for run in list_runs(runs_dir)))
    time.sleep(1.0)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=30)
    assert job.returncode == 143
    other = program(runs_dir, *words)  # another pace is another configuration
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert len(list_runs(runs_dir)) == 2
    first = list_runs(runs_dir)[-1]
    again = program(runs_dir, *words, "--pace", "8")
    out, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert len(list_runs(runs_dir)) == 2
    assert states(first)[-1] == "finished"
    assert any(record["kind"] == "resumed" for record in last_records(first.journal, 1 << 20))
    content = program(runs_dir, *words, "--pace", "8")
    out, errors = content.communicate(timeout=60)
    assert (content.returncode, out) == (0, "")
    assert f"run {first.short_id} is finished (trained for" in errors


def test_resume_auto_does_not_disturb_what_trains(make_run: Any, invoke: Any, worker: Any) -> None:
    run = make_run()
    worker(run)
    result = invoke("train", "ppo", "--preset", "none", "--no-ui", "--resume", "auto")
    assert result.exit_code == 2
    assert f"run {run.short_id} of this configuration is running already" in result.stderr


def test_a_supervisor_that_is_gone_leaves_what_waited_lost(make_run: Any) -> None:
    run = make_run()
    run.worker.unlink()
    run.journal.unlink()
    os.utime(run.path / "run.json", (0, 0))
    gone = subprocess.Popen(["true"])
    gone.wait()
    write_launched(run, gone.pid)
    assert observe(run).state == "lost"
    with acquire_lock(run), Journal(run.journal):
        pass
