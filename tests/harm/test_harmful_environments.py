"""Environments and devices that break: the run fails and says why, or is stalled; nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest
from victims import SAVE_ALWAYS, Figure, MakeRun, Times, iterations_done, newest_contents, records, wait_until
from warm_parent import Child, WarmParent

from metarl_tui.runs import checkpoints, liveness, requests
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.liveness import observe

IMPATIENT = {"metarl_tui.runs.liveness:BOUNDARY_LIMIT": 1.0, "metarl_tui.runs.liveness:BOUNDARY_MEDIANS": 0}
"""A worker that takes an iteration for hung after a second."""

HARMS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("raises", {"env": "hostile:Raises", "vector": "sync"}, {}, "ZeroDivisionError"),
    ("raises in its process", {"env": "hostile:Raises", "vector": "async"}, {}, "ZeroDivisionError"),
    ("gives NaN", {"env": "harmful:GivesNaN", "vector": "sync"}, {}, "is nan at step"),
    ("exits", {"env": "hostile:Exits", "vector": "sync"}, {}, "SystemExit"),
    ("process is killed", {"env": "harmful:KilledProcess", "vector": "async"}, {}, "ended (exit code -9)"),
    ("CUDA is out of memory", {}, {"trainers.ppo:PPO.step": "=out_of_memory"}, "CUDA out of memory"),
]


@pytest.mark.parametrize(("what", "setup", "patches", "why"), HARMS, ids=[what for what, *_ in HARMS])
def test_what_breaks_fails_the_run_and_says_why(
    what: str, setup: dict[str, Any], patches: dict[str, Any], why: str,
    make_run: MakeRun, warm: WarmParent, figure: Figure,
) -> None:  # fmt: skip
    run = make_run(endless=True, setup=setup, num_envs=2, rollout_steps=8, minibatch_size=16, eval_every=None)
    worker = warm.start("train", str(run.path), patches={**SAVE_ALWAYS, **patches})
    assert worker.wait(60) == 1
    status = records(run, "status")[-1]
    figure(f"{what}", 1, f"{status['state']}: {status['why'][:90]}")
    assert status["state"] == observe(run).state == "failed"
    assert why in status["why"]
    assert "Traceback" in run.log.read_text()
    assert checkpoints.listed(run)
    newest_contents(run)
    _nothing_left(worker)


def test_an_environment_that_hangs_is_stalled_and_stop_still_works(
    make_run: MakeRun, warm: WarmParent, scale: float, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is shortened, but not at full scale."""
    patches: dict[str, Any] = dict(SAVE_ALWAYS)
    if scale < 1:
        patches |= IMPATIENT
        monkeypatch.setattr(liveness, "BOUNDARY_LIMIT", 1.0)
        monkeypatch.setattr(liveness, "BOUNDARY_MEDIANS", 0)
    run = make_run(endless=True, setup={"env": "hostile:Hangs", "vector": "sync"}, eval_every=None)
    worker = warm.start("train", str(run.path), patches=patches)
    wait_until(lambda: iterations_done(run) >= 2)
    wait_until(lambda: observe(run).state == "stalled", 20 + liveness.BOUNDARY_LIMIT)
    standing = observe(run)
    assert standing.alive
    request = requests.send(run, "stop")
    began = time.monotonic()
    code = worker.wait(20)
    seconds = time.monotonic() - began
    status = records(run, "status")[-1]
    said = f"{standing.state}: {standing.why}; stop ended it in {seconds:.1f} s"
    figure("an environment that hangs", 1, said)
    assert code == 0
    assert status["state"] == "stopped"
    assert "given up" in status["why"]
    answer = requests.wait_for(run, request, 5)
    assert answer is not None
    assert answer["result"] == "applied"
    newest_contents(run)
    _nothing_left(worker)


def test_nothing_of_ours_is_left(make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure) -> None:
    """Workers with processes of environments, ended in each way; none of their processes may stay."""
    count, left = times(30), 0
    for turn in range(count):
        run = make_run(endless=True, setup={"vector": "async"}, num_envs=4, eval_every=None)
        worker = warm.start("train", str(run.path))
        wait_until(lambda run=run: iterations_done(run) >= 1)
        children = psutil.Process(worker.pid).children(recursive=True)
        assert len(children) >= 4
        match turn % 3:
            case 0:
                os.kill(worker.pid, signal.SIGKILL)
            case 1:
                requests.send(run, "stop")
            case _:
                worker.signal(signal.SIGTERM)
        worker.wait(20)
        _, alive = psutil.wait_procs(children, 5)
        left += len(alive)
        _nothing_left(worker)
    figure("processes after kill -9, stop and SIGTERM", count, f"{left} left of {4 * count} environments")
    assert left == 0


def _nothing_left(worker: Child) -> None:
    """No process of the worker's session lives."""
    wait_until(lambda: not _session(worker.pid), 10)


def _session(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_a_paused_run_is_not_stalled(
    make_run: MakeRun, warm: WarmParent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "BOUNDARY_LIMIT", 0.3)
    run: RunFolder = make_run(endless=True)
    warm.start("train", str(run.path))
    wait_until(lambda: iterations_done(run) > 2)
    requests.send(run, "pause")
    wait_until(lambda: observe(run).state == "paused")
    time.sleep(0.6)
    assert observe(run).state == "paused"
