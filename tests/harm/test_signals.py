"""Signals at random moments, headless: a checkpoint, the right exit code, in time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from victims import SAVE_ALWAYS, Figure, MakeRun, Times, iterations_done, newest_contents, records, wait_until
from warm_parent import WarmParent

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunFolder

LONGEST_SECONDS = 10.0
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ENDLESS = ("--total-steps", "100000000", "--num-envs", "4", "--rollout-steps", "16", "--minibatch-size", "32",
           "--hidden-sizes", "8")  # fmt: skip
NO_PATIENCE = {"metarl_tui.worker.interruption:PATIENCE_SECONDS": 0.8}


def _heeds_signals(folder: RunFolder) -> bool:
    return folder.lock.exists()  # made after the handlers are


def _how_it_ended(folder: RunFolder) -> str:
    """What is not as it should be after a signal, or nothing."""
    status = records(folder, "status")[-1]
    if status["state"] != "stopped":
        return f"it is {status['state']}"
    if not checkpoints.listed(folder):
        return "there is no checkpoint"
    newest_contents(folder)
    if checkpoints.listed(folder)[-1].iteration != iterations_done(folder):
        return "the newest iteration is not saved"
    return ""


def test_signals_at_random_moments(make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure) -> None:
    random_source = random.Random(11)
    count, wrong, slowest, before_iteration_1 = times(100), [], 0.0, 0
    for turn in range(count):
        number = NUMBERS[turn % len(NUMBERS)]
        run = make_run(("ppo", "maml")[turn % 2], endless=True)
        process = warm.start("train_headless", str(run.path))
        wait_until(lambda run=run: _heeds_signals(run), pause=0.001)
        time.sleep(random_source.uniform(0, 0.8))
        before_iteration_1 += iterations_done(run) == 0
        began = time.monotonic()
        process.signal(number)
        code = process.wait(2 * LONGEST_SECONDS)
        slowest = max(slowest, time.monotonic() - began)
        what = "" if code == 128 + number else f"exit code {code} after {number.name}"
        if what := what or _how_it_ended(run):
            wrong.append(what)
    figure(
        "SIGINT, SIGTERM, SIGUSR1 at random moments, headless", count,
        f"{count - len(wrong)} of {count} saved with the right exit code, slowest {slowest:.2f} s; "
        f"{before_iteration_1} while starting",
    )  # fmt: skip
    assert not wrong
    assert slowest < LONGEST_SECONDS


def test_signals_from_the_very_beginning(tmp_path: Path, times: Times, figure: Figure) -> None:
    """To the program as a person starts it: before the folder is made, meanwhile and afterwards."""
    random_source = random.Random(12)
    count, wrong, nothing_there, trained = max(times(20), 3), [], 0, 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for turn in range(count):
        number = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)[turn % 3]
        how = ("--no-ui", "--detach")[turn // 3 % 2]
        runs = tmp_path / f"runs-{turn}"
        command = [sys.executable, "-m", "metarl_tui", "train", "ppo", how, "--runs-dir", str(runs), *ENDLESS]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        time.sleep(random_source.uniform(0.1, 2.0))
        process.send_signal(number)
        code = process.wait(2 * LONGEST_SECONDS)
        folders = [RunFolder(path) for path in runs.glob("*") if path.is_dir()]
        workers = _workers_in(runs)
        if code == 0 and how == "--detach":  # it trains, and whoever began it knows
            trained += len(folders) == len(workers) == 1
            for worker in workers:
                worker.kill()
            continue
        # Before the program has begun, Python dies of the signal: a shell takes that for the same exit code.
        if code not in (128 + number, -number):
            wrong.append(f"exit code {code} after {number.name}, {how}")
        if workers:
            wrong.append(f"a process is left after {number.name}, {how}")
        wrong += [f"{what} after {number.name}, {how}" for run in folders if (what := _how_it_ended(run))]
        nothing_there += not folders
        trained += bool(folders)
    figure(
        "signals from the program's first moment on", count,
        f"{count - len(wrong)} of {count} with the right exit code, {nothing_there} left nothing, "
        f"{trained} a whole run",
    )  # fmt: skip
    assert not wrong
    assert nothing_there + trained == count


def _workers_in(runs: Path) -> list[psutil.Process]:
    """The processes that train a run in ``runs``."""
    return [
        process for process in psutil.process_iter(["cmdline"])
        if any(word.startswith(str(runs)) for word in process.info["cmdline"] or ())
    ]  # fmt: skip


def test_a_stop_signal_that_was_not_chosen_is_not_heeded(make_run: MakeRun, warm: WarmParent) -> None:
    for chosen, number in (("USR2", signal.SIGUSR2), ("none", signal.SIGTERM)):
        run = make_run(endless=True, options={"stop_signal": chosen})
        process = warm.start("train_headless", str(run.path))
        wait_until(lambda run=run: iterations_done(run))
        process.signal(number)
        assert process.wait() == 128 + number
        assert _how_it_ended(run) == ""


def test_what_was_ignored_before_it_began_stays_ignored(make_run: MakeRun) -> None:
    """As nohup has it."""
    run = make_run(endless=True)
    script = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); import victims; "
    script += "sys.exit(victims.train_headless(sys.argv[1]))"
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(run.path)],
        env={**os.environ, "PYTHONPATH": here}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: iterations_done(run) > 1)
        process.send_signal(signal.SIGHUP)
        before = iterations_done(run)
        wait_until(lambda: iterations_done(run) > before + 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_SECONDS) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert _how_it_ended(run) == ""


def test_an_iteration_that_takes_too_long_is_given_up(
    make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure
) -> None:
    """The patience is shortened, but for one at full scale; what follows it must be short."""
    count, slowest = times(10), 0.0
    for turn in range(count):
        number = NUMBERS[turn % len(NUMBERS)]
        run = make_run(endless=True, setup={"env": "hostile:Hangs", "vector": "sync"}, eval_every=None)
        patches = NO_PATIENCE if turn or count < 10 else {}
        process = warm.start("train_headless", str(run.path), patches=patches)
        wait_until(lambda run=run: iterations_done(run) >= 2)
        time.sleep(0.2)  # into the third, which never ends
        began = time.monotonic()
        process.signal(number)
        assert process.wait(2 * LONGEST_SECONDS) == 128 + number
        slowest = max(slowest, time.monotonic() - began)
        assert "given up" in records(run, "status")[-1]["why"]
    figure("an iteration that hangs, then a signal", count, f"{count} given up, slowest {slowest:.2f} s")
    assert slowest < LONGEST_SECONDS


def test_a_second_ctrl_c_leaves_within_a_second(
    make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure
) -> None:
    count, slowest = times(20), 0.0
    for _ in range(count):
        run = make_run(endless=True, setup={"env": "hostile:Hangs", "vector": "sync"}, eval_every=None)
        process = warm.start("train_headless", str(run.path), patches=SAVE_ALWAYS)
        wait_until(lambda run=run: iterations_done(run) >= 2)
        time.sleep(0.2)
        process.signal(signal.SIGINT)
        time.sleep(0.1)
        assert process.poll() is None
        began = time.monotonic()
        process.signal(signal.SIGINT)
        assert process.wait() == 130
        slowest = max(slowest, time.monotonic() - began)
        assert newest_contents(run).weights
    figure("a second Ctrl-C", count, f"all left with the checkpoint before whole, slowest {slowest:.2f} s")
    assert slowest < 1.0


SLURM_SCRIPT = """#!/bin/bash
#SBATCH --signal=USR1@120 --requeue --open-mode=append
exec "$PYTHON" -m metarl_tui train ppo --no-ui --resume auto --name batch --runs-dir "$RUNS" \\
    --total-steps $STEPS --num-envs 4 --rollout-steps 16 --minibatch-size 32 --vector async
"""


def test_a_requeued_job_goes_on_by_itself(tmp_path: Path, times: Times, figure: Figure) -> None:
    """A stand-in for Slurm: USR1 to every process of the job's step, TERM later, the same script again."""
    known = subprocess.run(
        [sys.executable, "-m", "metarl_tui", "train", "ppo", "--help"], capture_output=True, text=True
    )
    if "--resume" not in known.stdout:
        pytest.skip("metarl-tui train has no --resume auto")
    script, runs = tmp_path / "job.sh", tmp_path / "runs"
    script.write_text(SLURM_SCRIPT)
    environment = {**os.environ, "PYTHON": sys.executable, "RUNS": str(runs), "STEPS": "10000000"}
    count, reached = max(times(10), 2), 0
    random_source = random.Random(2)
    for turn in range(count):
        job = subprocess.Popen(["bash", str(script)], env=environment, start_new_session=True)
        wait_until(lambda before=reached: _newest_iteration(runs) > before, 60, 0.05)
        time.sleep(random_source.uniform(0, 0.5))
        for number in (signal.SIGUSR1, signal.SIGTERM):
            os.killpg(job.pid, number)
            time.sleep(0.05)
        assert job.wait(LONGEST_SECONDS) == 128 + signal.SIGUSR1
        (folder,) = (RunFolder(path) for path in runs.glob("2*"))
        assert _how_it_ended(folder) == ""
        assert iterations_done(folder) > reached
        reached = iterations_done(folder)
        assert len(records(folder, "resumed")) == turn
    figure("a job that is told to end and requeued", count, f"one run, {reached} iterations, none lost")


def _newest_iteration(runs: Path) -> int:
    return max((iterations_done(RunFolder(path)) for path in runs.glob("2*")), default=0)
