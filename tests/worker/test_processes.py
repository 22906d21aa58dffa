"""Real worker processes: started, killed, signalled, locked out, and run in the foreground."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest
from small_runs import MakeRun, metrics, records, states, wait_until

from metarl_tui import launch
from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.liveness import observe, read_worker
from metarl_tui.worker.interruption import Interruption

LONG = {"total_steps": 10_000_000, "eval_every": None}


FOREGROUND = """
import sys
from pathlib import Path
from metarl_tui.headless import train_here
from metarl_tui.runs.folder import RunFolder
sys.exit(train_here(RunFolder(Path(sys.argv[1])), json="json" in sys.argv))
"""


def foreground(folder: RunFolder, *, json: bool = False) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", FOREGROUND, str(folder.path), *(["json"] if json else [])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def iterations_done(folder: RunFolder) -> int:
    return max(metrics(folder), default=0)


def worker_pid(folder: RunFolder) -> int:
    worker = read_worker(folder)
    assert worker is not None
    return worker.identity.pid


@pytest.fixture
def started(make_run: MakeRun) -> RunFolder:
    """A long run in a worker of its own, some iterations in; it is ended after the test."""
    run = make_run(**LONG)
    launch.start(run).wait()
    wait_until(lambda: iterations_done(run) >= 3)
    return run


@pytest.fixture(autouse=True)
def _no_process_left() -> object:
    yield
    for child in psutil.Process().children(recursive=True):
        child.kill()
        child.wait(5)


def test_kill_9_loses_nothing_that_was_journaled(started: RunFolder) -> None:
    wait_until(lambda: checkpoints.listed(started))
    os.kill(worker_pid(started), signal.SIGKILL)
    wait_until(lambda: observe(started).state == "lost")
    before = iterations_done(started)
    newest = checkpoints.newest_good(started)
    assert newest is not None
    again = launch.start(started)
    again.wait()
    assert again.resumed_from == newest[0].iteration <= before
    wait_until(lambda: iterations_done(started) > before)
    assert observe(started).state == "running"


def test_only_one_worker_gets_a_run(started: RunFolder) -> None:
    second = launch.start(started)
    with pytest.raises(launch.StartFailed, match=str(worker_pid(started))):
        second.wait()
    assert observe(started).state == "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_saves_and_ends_the_worker(started: RunFolder, number: signal.Signals) -> None:
    os.kill(worker_pid(started), number)
    wait_until(lambda: states(started)[-1] == "stopped")
    last = records(started, "status")[-1]
    assert number.name in last["why"]
    assert checkpoints.listed(started)[-1].iteration == last["iteration"] == iterations_done(started)


def test_the_worker_has_no_terminal_and_a_session_of_its_own(started: RunFolder) -> None:
    worker = psutil.Process(worker_pid(started))
    assert os.getsid(worker.pid) == worker.pid
    assert worker.terminal() is None


def test_what_can_not_start_says_why(make_run: MakeRun) -> None:
    run = make_run(env="CartPol-v1")
    with pytest.raises(launch.StartFailed, match="CartPole-v1"):
        launch.start(run).wait()


def test_in_a_pipe_there_are_plain_lines(make_run: MakeRun) -> None:
    run = make_run(name="\x1b[31mred\x1b]52;c;x\x07")
    out, errors = foreground(run).communicate(timeout=60)
    assert b"\x1b" not in out + errors
    assert b"finished" in out
    assert b"return" in out


def test_json_lines_are_the_journal(make_run: MakeRun) -> None:
    run = make_run()
    process = foreground(run, json=True)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [orjson.loads(line) for line in out.splitlines()] == records(run)


def test_when_nobody_reads_the_lines_the_run_ends_saved(make_run: MakeRun) -> None:
    run = make_run(**LONG)
    process = foreground(run, json=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert "SIGPIPE" in records(run, "status")[-1]["why"]
    assert checkpoints.listed(run)


def test_what_can_not_start_in_the_foreground_leaves_the_saying_to_the_caller(make_run: MakeRun) -> None:
    process = foreground(make_run(env="CartPol-v1"))
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (2, b"", b"")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_in_the_foreground_saves_and_tells_by_exit_code(
    make_run: MakeRun, number: signal.Signals, code: int
) -> None:
    run = make_run(**LONG)
    process = foreground(run)
    wait_until(lambda: iterations_done(run) >= 3)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == code
    assert checkpoints.listed(run)[-1].iteration == iterations_done(run)


def test_a_terminal_that_closes_ends_the_foreground_saved(make_run: MakeRun) -> None:
    run = make_run(**LONG)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", FOREGROUND, str(run.path)])
    wait_until(lambda: os.read(terminal, 1 << 16) and iterations_done(run) >= 3)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert "SIGHUP" in records(run, "status")[-1]["why"]
    assert checkpoints.listed(run)[-1].iteration == iterations_done(run)


def test_a_full_or_closed_output_ends_no_run(make_run: MakeRun) -> None:
    for redirection in (">/dev/full", ">&-"):
        run = make_run()
        command = f'exec "{sys.executable}" -c "$0" "$1" {redirection}'
        done = subprocess.run(
            ["sh", "-c", command, FOREGROUND, str(run.path)], capture_output=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert states(run)[-1] == "finished"


def test_a_link_in_place_of_the_log_is_not_followed(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    run.log.symlink_to(tmp_path / "victim")
    with pytest.raises(launch.StartFailed):
        launch.start(run).wait()
    assert not (tmp_path / "victim").exists()


def test_a_second_ctrl_c_leaves_at_once(make_run: MakeRun) -> None:
    run = make_run(env="hostile:Hangs", vector="sync", **LONG)
    process = foreground(run)
    wait_until(lambda: iterations_done(run) >= 2)
    time.sleep(0.5)  # into the third, which never ends
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=3)
    assert process.returncode == 130


def test_an_iteration_that_hangs_is_given_up(make_run: MakeRun) -> None:
    run = make_run(env="hostile:Hangs", vector="sync", **LONG)
    process = foreground(run)
    wait_until(lambda: iterations_done(run) >= 2)
    time.sleep(0.5)  # into the third, which never ends
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert process.returncode == 143
    assert "given up" in records(run, "status")[-1]["why"]


def test_a_failed_run_exits_1_with_its_traceback_in_the_log(make_run: MakeRun) -> None:
    run = make_run(env="hostile:Raises")
    launch.start(run).wait()
    wait_until(lambda: states(run)[-1] == "failed")
    assert "ZeroDivisionError" in Path(run.log).read_text()


def test_a_signal_that_a_shell_has_ignored_for_the_background_is_heeded_but_a_hangup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        interruption = Interruption().install()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal == signal.SIGINT
        interruption.restore()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
