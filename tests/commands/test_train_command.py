"""``train`` and the program as a whole: flags, errors on one line, folders that don't stay behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from metarl_tui.commands import COMMANDS
from metarl_tui.launch import StartFailed
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import Journal
from trainers.declarations import declarations
from trainers.hyperparameters import TRAINERS

ROOT = Path(__file__).parent.parent.parent
PROGRAM = [sys.executable, "-m", "metarl_tui"]


class FakeLaunch:
    """A worker that starts, or gives the reason why not."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.ended = False

    goes_forward = False

    def terminate(self) -> None: ...

    def wait(self, **how: Any) -> None:
        if self.refusal:
            raise StartFailed(self.refusal)

    def end(self, timeout: float = 10.0) -> None:
        self.ended = True


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    """Folders handed to the foreground trainer, which does nothing."""
    folders: list[RunFolder] = []

    def train_here(folder: RunFolder, **how: Any) -> int:
        folders.append(folder)
        return 0

    monkeypatch.setattr("metarl_tui.headless.train_here", train_here)
    return folders


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


@pytest.mark.parametrize("entry", TRAINERS.values(), ids=TRAINERS)
def test_every_declared_setting_is_a_flag_with_its_help(invoke: Any, entry: Any) -> None:
    text = " ".join(invoke("train", entry.name, "--help").stdout.split())
    for settings in (entry.setup, entry.hyperparameters):
        for declaration in declarations(settings).values():
            assert f"{declaration.flag} " in text
            assert declaration.help.split()[0] in text
    for flag in ("--config", "--preset", "--no-ui", "--json", "--detach", "--pace", "--paused", "--runs-dir"):
        assert f"{flag} " in text
    positions = [text.index(f"{title}:") for title in ("Environment", "Hyperparameters", "Run", "Options")]
    assert positions == sorted(positions)


def test_flags_reach_the_runs_configuration(invoke: Any, trained: list[RunFolder]) -> None:
    result = invoke(
        *("train", "ppo", "--no-ui", "--env", "Acrobot-v1", "--env-arg", "a=1", "--env-arg", "b=x"),
        *("--hidden-sizes", "32,16", "--no-normalize-advantages", "--target-kl", "0.02"),
        *("--max-grad-norm", "off", "--seed", "7", "--until", "-90"),
        *("--pace", "20", "--paused", "--on-nan", "stop", "--name", "a name"),
    )
    assert result.exit_code == 0, result.stderr
    (folder,) = trained
    config = RunFolder(folder.path).config
    assert (config.trainer, config.subject, config.name) == ("ppo", "Acrobot-v1", "a name")
    assert config.setup["env_arg"] == {"a": 1, "b": "x"}
    assert config.setup["seed"] == 7
    assert config.options == {"pace": 20.0, "on_nan": "stop", "paused": True, "stop_signal": "USR1"}
    chosen = config.hyperparameters
    assert (chosen["hidden_sizes"], chosen["normalize_advantages"]) == ([32, 16], False)
    assert (chosen["target_kl"], chosen["max_grad_norm"], chosen["until"]) == (0.02, None, -90.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gamma", "1.2"], "gamma = 1.2: must be a number from 0 to 1"),
        (["--learning-rate", "-1"], "learning_rate = -1: must be a number above 0 and at most 10"),
        (["--minibatch-size", "1000"], "minibatch_size = 1000: must divide num_envs × rollout_steps"),
        (["--epochs", "2.5"], "epochs = 2.5: must be a whole number"),
        (["--vector", "fast"], "vector = fast: must be one of auto, native, sync, async"),
        (["--gama", "1"], "--gama: no such option; did you mean --gamma"),
        (["--gamma"], "--gamma: "),
        (["CartPole-v1"], "got unexpected extra argument"),
        (["--name", "--help"], "name = --help: must not begin with -"),
        (["--name", "two\nlines\x1b[31m"], "name = two lines: must be printable text on one line"),
        (["--name", "latest"], "name = latest: is reserved"),
        (["--env-arg", "gravity"], "env_arg = gravity: must be KEY=VALUE"),
        (["--preset", "nope"], "preset = nope: must be one of"),
        (["--config", "missing.toml"], "missing.toml: No such file"),
        (["--detach"], "--no-ui trains in the foreground and --detach in the background: choose one"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(
    invoke: Any, trained: list[RunFolder], runs_dir: Path, words: list[str], message: str
) -> None:
    result = invoke("train", "ppo", "--no-ui", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not trained
    assert not runs_dir.exists()


def test_a_name_that_means_another_run_is_refused(
    invoke: Any, trained: list[RunFolder], make_run: Any
) -> None:
    there = make_run(name="baseline")
    for name in (there.short_id, there.id, there.id[:8]):
        refused = invoke("train", "ppo", "--no-ui", "--name", name)
        assert refused.exit_code == 2
        assert refused.stderr == f"error: name = {name}: means the run {there.id}; choose another\n"
    assert (
        invoke("train", "ppo", "--no-ui", "--name", "baseline").exit_code == 0
    )  # two may be called the same
    assert len(trained) == 1


def test_a_working_folder_that_was_removed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = (
        f'cd gone && rmdir ../gone && "{PROGRAM[0]}" -m metarl_tui train ppo --no-ui --runs-dir {tmp_path}'
    )
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the folder that you are in was removed; change to another\n"


def test_unwritable_runs_folder_is_named(invoke: Any, trained: list[RunFolder], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("train", "ppo", "--no-ui", "--runs-dir", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: runs folder {tmp_path / 'file'}: ")
    assert not trained


@pytest.mark.parametrize(
    "words", [[], ["trian"], ["train"], ["train", "pp0"], ["show"], ["set", "x"], ["list", "x"]]
)
def test_usage_errors_are_one_line(invoke: Any, words: list[str]) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_without_a_terminal_nothing_is_made(invoke: Any, runs_dir: Path) -> None:
    result = invoke("train", "ppo")
    assert result.exit_code == 2
    assert "metarl-tui train ppo --no-ui" in result.stderr
    assert not runs_dir.exists()
    assert "--no-ui" in invoke().stderr


def test_start_that_fails_in_the_foreground_leaves_no_folder(
    invoke: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_here(folder: RunFolder, **how: Any) -> int:
        with Journal(folder.journal) as journal:
            journal.append("status", 0, state="failed", why="env = Foo-v1: no such environment")
        return 2

    monkeypatch.setattr("metarl_tui.headless.train_here", train_here)
    result = invoke("train", "ppo", "--no-ui", "--env", "Foo-v1")
    assert (result.exit_code, result.stderr) == (2, "error: env = Foo-v1: no such environment\n")
    assert not list(runs_dir.iterdir())


def test_detach_prints_the_id_alone(invoke: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl_tui.launch.start", lambda folder, **how: FakeLaunch())
    result = invoke("train", "ppo", "--detach")
    (path,) = runs_dir.iterdir()
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{path.name}\n", "")
    page = json.loads(invoke("train", "ppo", "--detach", "--json").stdout)
    assert Path(page["path"]).name == page["id"]


def test_a_detached_run_whose_id_nobody_could_read_is_named_all_the_same(
    runs_dir: Path, tmp_path: Path
) -> None:
    words = ["train", "ppo", "--detach", "--total-steps", "1000000000", "--runs-dir", str(runs_dir)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    (run,) = (RunFolder(path) for path in runs_dir.glob("2*"))
    try:
        assert done.returncode == 1
        assert f"{run.short_id} trains; metarl-tui open {run.short_id} shows it" in done.stderr
    finally:
        subprocess.run([*PROGRAM, "stop", run.id, "--runs-dir", str(runs_dir)], env=environment())


def test_detached_start_that_fails_leaves_no_folder(
    invoke: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = FakeLaunch("device = cuda: no CUDA device is available")
    monkeypatch.setattr("metarl_tui.launch.start", lambda folder, **how: launch)
    result = invoke("train", "ppo", "--detach")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: device = cuda: no CUDA device is available\n"
    assert launch.ended
    assert not list(runs_dir.iterdir())


class SignalledLaunch(FakeLaunch):
    """A worker whose start is waited for when a signal comes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def wait(self, **how: Any) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_while_a_detached_run_starts_ends_its_worker_and_removes_its_folder(
    invoke: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    launch, before = SignalledLaunch(number), signal.getsignal(number)
    monkeypatch.setattr("metarl_tui.launch.start", lambda folder, **how: launch)
    result = invoke("train", "ppo", "--detach")
    assert (result.exit_code, result.stdout) == (128 + number, "")
    assert launch.ended
    assert not list(runs_dir.iterdir())
    assert signal.getsignal(number) is before


def test_signal_before_the_worker_is_known_ends_it_too(
    invoke: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = FakeLaunch()

    def start(folder: RunFolder, **how: Any) -> FakeLaunch:
        os.kill(os.getpid(), signal.SIGTERM)
        return launch

    monkeypatch.setattr("metarl_tui.launch.start", start)
    assert invoke("train", "ppo", "--detach").exit_code == 143
    assert launch.ended
    assert not list(runs_dir.iterdir())


def test_signal_while_a_run_is_resumed_ends_the_worker_and_keeps_the_folder(
    invoke: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, launch = make_run("stopped"), SignalledLaunch(signal.SIGTERM)
    monkeypatch.setattr("metarl_tui.launch.start", lambda folder, **how: launch)
    monkeypatch.setattr("metarl_tui.commands.resume.wait_until_left", lambda folder: None)
    assert invoke("resume", folder.id).exit_code == 143
    assert launch.ended
    assert (folder.path / "run.json").exists()


def test_help_lists_every_command_and_every_command_exists(invoke: Any) -> None:
    text = invoke("--help").stdout
    for commands in COMMANDS.values():
        for name in commands:
            assert f"\n  {name} " in text
            page = invoke(name, "--help").stdout
            assert page.startswith("Usage: metarl-tui")
            assert max(map(len, (text + page).splitlines())) <= 80


def test_help_costs_little_more_than_starting_python() -> None:
    def seconds(*words: str) -> float:
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment())
            times.append(time.perf_counter() - begun)
        return min(times)

    assert seconds("-m", "metarl_tui", "--help") <= 4 * seconds("-c", "pass")


def test_dumb_terminal_is_told_what_works(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    done = subprocess.run(
        [*PROGRAM, "train", "ppo", "--runs-dir", str(tmp_path / "runs")],
        stdin=follower, stdout=follower, stderr=follower, env=environment(TERM="dumb"), check=False,
    )  # fmt: skip
    os.close(follower)
    said = os.read(leader, 4096).decode()
    os.close(leader)
    assert done.returncode == 2
    assert said.count("\n") == 1
    assert "TERM = dumb" in said
    assert "--no-ui" in said
    assert not (tmp_path / "runs").exists()


def test_reader_of_a_pipe_may_leave_early(make_run: Any, runs_dir: Path, tmp_path: Path) -> None:
    folder = make_run()
    folder.log.write_text("a line of the log\n" * 50_000)
    process = subprocess.Popen(
        [*PROGRAM, "log", folder.short_id, "--runs-dir", str(runs_dir)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(10) == 141
    process.stderr.close()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_traceback(make_run: Any, runs_dir: Path, closed: str) -> None:
    folder = make_run()
    words = f"-m metarl_tui show {folder.short_id} --runs-dir {runs_dir}"
    command = f'"{sys.executable}" {words} {closed}; echo $? >&9'
    reader, writer = os.pipe()
    done = subprocess.run(
        ["bash", "-c", f"exec 9>&{writer}; {command}"],
        capture_output=True, env=environment(), pass_fds=(writer,), check=False,
    )  # fmt: skip
    os.close(writer)
    assert os.read(reader, 100) == b"0\n"
    os.close(reader)
    assert b"Traceback" not in done.stderr
    assert (b"hyperparameters" in done.stdout) == (closed in ("<&-", "2>&-"))


def test_full_disk_behind_standard_output_is_one_line(make_run: Any, runs_dir: Path) -> None:
    folder = make_run()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "show", folder.short_id, "--runs-dir", str(runs_dir)],
            stdout=full, stderr=subprocess.PIPE, env=environment(), check=False, text=True,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


@pytest.mark.parametrize(("variables", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_respected_on_a_terminal(
    make_run: Any, runs_dir: Path, variables: dict[str, str], is_coloured: bool
) -> None:
    folder = make_run()
    leader, follower = pty.openpty()
    surroundings = {**environment(TERM="xterm-256color"), **variables}
    if "NO_COLOR" not in variables:
        surroundings.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [*PROGRAM, "plot", folder.short_id, "return", "--runs-dir", str(runs_dir)],
        stdin=follower, stdout=follower, stderr=follower, env=surroundings,
    )  # fmt: skip
    os.close(follower)
    said = b""
    with contextlib.suppress(OSError):  # the terminal is gone when the program has ended
        while part := os.read(leader, 1 << 16):
            said += part
    os.close(leader)
    assert process.wait(10) == 0
    assert b"return 300" in said
    assert (b"\x1b[" in said) == is_coloured


class _Interrupted:
    """What a class attribute is that a signal comes upon."""

    def __set_name__(self, owner: type, name: str) -> None:
        raise SystemExit(130)


@pytest.mark.parametrize("part", ["metarl_tui.app.app.run_app", "metarl_tui.headless.train_here"])
def test_a_signal_while_a_class_is_made_ends_the_program_as_any_other(
    invoke: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(part, lambda *_, **__: type("Made", (), {"part": _Interrupted()}))
    monkeypatch.setattr("metarl_tui.commands.starting.require_terminal", lambda instead: None)
    result = invoke("train", "ppo", *(["--no-ui"] if "headless" in part else []))
    assert (result.exit_code, result.stderr) == (130, "")
    assert not list(runs_dir.glob("2*"))
