from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from metarl_tui.runs import checkpoints, requests, summary
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import (
    RunBusy,
    RunConfig,
    RunError,
    RunFolder,
    acquire_lock,
    default_runs_folder,
    delete,
    write_atomically,
)
from metarl_tui.runs.heartbeat import Heart
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.process import write_worker


def config(**fields: Any) -> RunConfig:
    return RunConfig(**{"trainer": "ppo", "subject": "CartPole-v1", **fields})


def test_a_run_is_named_by_time_trainer_and_subject(runs_dir: Path) -> None:
    for subject, part in (
        ("CartPole-v1", "cartpole"), ("my_package.envs:Grid World", "grid-world"), ("", ""),
        ("../../etc", "etc"), ("\x1b[31mALE/Pong-v5", "31male-pong"),
    ):  # fmt: skip
        run = RunFolder.create(runs_dir, config(subject=subject))
        middle = f"-{part}" if part else ""
        assert re.fullmatch(rf"\d{{8}}-\d{{6}}-ppo{middle}-[a-z0-9]{{4}}", run.id)
        assert run.path.parent == runs_dir
        assert run.short_id == run.id[-4:]
    assert len({run.name[-4:] for run in runs_dir.iterdir()}) == 5


def test_ids_are_in_the_order_in_which_runs_were_begun_whatever_the_zone(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = 1_795_000_000.0
    try:
        for later, zone in enumerate(("Asia/Tokyo", "UTC", "America/Los_Angeles")):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            newest = RunFolder.create(runs_dir, config(created=began + later))
            assert find_run(runs_dir, "latest") == newest
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_runs_folder_may_be_a_link(runs_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    runs_dir.symlink_to(tmp_path / "scratch")
    run = RunFolder.create(runs_dir, config())
    assert (tmp_path / "scratch" / run.id / "run.json").is_file()
    assert find_run(runs_dir, "latest") == run


def test_the_configuration_comes_back(runs_dir: Path) -> None:
    written = config(
        setup={"env": "CartPole-v1", "env_args": {"a": 1.5}, "seed": 3},
        hyperparameters={"hidden_sizes": [64, 64], "target_kl": None, "learning_rate": 2.5e-4},
        options={"pace": None, "paused": False, "on_nan": "pause"},
        changes=[{"iteration": 50, "clip_epsilon": 0.1}],
        name="first try",
        parent={"run": "20261122-154210-ppo-cartpole-k3f9", "iteration": 120},
    )
    run = RunFolder.create(runs_dir, written)
    assert RunFolder(run.path).config == written
    assert run.title == "first try"
    assert RunFolder.create(runs_dir, config()).title != "first try"


def test_hostile_names_are_cleaned(runs_dir: Path) -> None:
    run = RunFolder.create(runs_dir, config(name="a\x1b]0;x\x07\nb" + "c" * 1_000_000))
    assert run.title.startswith("a bccc")
    assert len(run.title) <= 80
    odd = runs_dir / "od\x1b[31md\n-x\x07y"
    odd.mkdir()
    assert (RunFolder(odd).id, RunFolder(odd).short_id) == ("odd -xy", "xy")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 3000, "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "trainer is missing"),
        (b'{"trainer": 3}', "trainer = 3: must be the name"),
        (b'{"trainer": "ppo"}', "created is missing"),
        (b'{"trainer": "ppo", "created": "now"}', "created = now: must be a time"),
        (b'{"trainer": "ppo", "created": 1e300}', "created"),
        (b'{"trainer": "ppo", "created": 1, "setup": []}', "setup"),
        (b'{"trainer": "ppo", "created": 1, "changes": [{"iteration": 0}]}', "changes"),
        (b'{"trainer": "ppo", "created": 1, "changes": {}}', "changes"),
        (b'{"trainer": "ppo", "created": 1, "parent": {"run": "x"}}', "parent"),
        (b'{"trainer": "ppo", "created": 1, "name": ["\\u001b[31m"]}', "name"),
        (b'{"trainer": "ppo", "created": 1, "setup": ' + b'{"a":' * 100 + b"1" + b"}" * 101, "nested"),
        (b" " * (1 << 20) + b"{}", "bytes, at most"),
    ],
)
def test_a_malformed_configuration_is_named(run: RunFolder, content: bytes, expected: str) -> None:
    (run.path / "run.json").write_bytes(content)
    fresh = RunFolder(run.path)
    with pytest.raises(RunError, match=re.escape(expected)) as caught:
        _ = fresh.config
    assert "run.json" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert fresh.title == run.short_id


def test_what_stands_in_the_configurations_place_is_not_followed(run: RunFolder, tmp_path: Path) -> None:
    path = run.path / "run.json"
    content = path.read_bytes()
    path.unlink()
    (tmp_path / "other").write_bytes(content)
    for make in (lambda: path.symlink_to(tmp_path / "other"), lambda: os.mkfifo(path), path.mkdir):
        make()
        with pytest.raises(RunError, match=r"run\.json"):
            _ = RunFolder(run.path).config
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(RunError, match="not a run"):
        _ = RunFolder(run.path).config


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_everything_is_private_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        run = RunFolder.create(tmp_path / "data" / "runs", config())
        with acquire_lock(run), Journal(run.journal) as journal, Heart(run):
            write_worker(run)
            journal.append("note", 1, text="x")
            requests.send(run, "pause")
            checkpoints.save(run, 1, checkpoints.Contents(), "automatic")
            checkpoints.save(run, 1, checkpoints.Contents(), "best")
            summary.write(run, summary.Summary(state="running"))
        with run.journal.open("ab") as file:
            file.write(b"torn")
        Journal(run.journal).close()
        for path in (tmp_path / "data", *(tmp_path / "data").rglob("*")):
            expected = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == expected, path
        assert len(list(run.path.rglob("*"))) == 15
    finally:
        os.umask(before)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "runs", Path("/proc/runs")):
        with pytest.raises(RunError, match=re.escape(str(bad))):
            RunFolder.create(bad, config())
    assert (tmp_path / "file").read_text() == ""


def test_nothing_is_left_where_creation_fails(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metarl_tui.runs.folder.write_atomically", full)
    with pytest.raises(RunError, match="No space left"):
        RunFolder.create(runs_dir, config())
    assert list(runs_dir.iterdir()) == []


def test_an_interrupted_replacement_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    for call in ("fsync", "write"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="space"):
                write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_others_may_write_is_refused_for_control(run: RunFolder) -> None:
    run.check_private()
    run.journal.touch(0o600)
    for path in (run.path, run.path / "run.json", run.requests, run.journal, run.checkpoints):
        for mode, who in ((0o770, "its group"), (0o707, "everyone"), (0o777, "everyone")):
            path.chmod(mode)
            with pytest.raises(RunError, match=who) as caught:
                run.check_private()
            command = str(caught.value).rpartition("mend it with: ")[2]
            with pytest.raises(RunError):
                requests.send(run, "stop")
            subprocess.run(["sh", "-c", command], check=True)
            run.check_private()
    assert requests.pending(run) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("part", [".", "run.json", "requests", "checkpoints"])
def test_what_belongs_to_others_is_refused_for_control(run: RunFolder, part: str) -> None:
    os.chown(run.path / part, 65534, 0)
    with pytest.raises(RunError, match="belongs to nobody, who could then steer the run") as caught:
        requests.send(run, "stop")
    subprocess.run(["sh", "-c", str(caught.value).rpartition("mend it with: ")[2]], check=True)
    run.check_private()


def test_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("METARL_RUNS_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert "metarl-tui" in str(default_runs_folder())
    (tmp_path / "saved_runs").mkdir()
    assert default_runs_folder() == Path("saved_runs")
    monkeypatch.setenv("METARL_RUNS_DIR", str(tmp_path / "named"))
    assert default_runs_folder() == tmp_path / "named"
    assert default_runs_folder(Path("~/x")) == Path.home() / "x"


def test_deleting_removes_the_run_and_of_links_only_the_links(run: RunFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "00000001").mkdir(parents=True)
    (outside / "precious").write_text("x")
    checkpoints.save(run, 1, checkpoints.Contents(), "automatic")
    (run.checkpoints / "00000002").symlink_to(outside)
    run.log.symlink_to(outside / "precious")
    delete(run)
    assert not run.path.exists()
    assert (outside / "precious").exists()
    assert (outside / "00000001").exists()


def test_what_is_trained_linked_or_not_ours_is_not_deleted(run: RunFolder, tmp_path: Path) -> None:
    with acquire_lock(run), pytest.raises(RunBusy, match="is being trained"):
        delete(run)
    link = tmp_path / "link"
    link.symlink_to(run.path)
    with pytest.raises(RunError, match="is a link"):
        delete(RunFolder(link))
    other = tmp_path / "project"
    other.mkdir()
    with pytest.raises(RunError, match="not a run"):
        delete(RunFolder(other))
    (other / "run.json").write_text('{"script": "main.py"}')
    with pytest.raises(RunError, match="trainer is missing"):
        delete(RunFolder(other))
    assert (other / "run.json").exists()
    assert run.path.exists()


def test_a_malformed_run_can_be_deleted(run: RunFolder) -> None:
    (run.path / "run.json").write_text("garbage")
    delete(RunFolder(run.path))
    assert not run.path.exists()


def test_what_would_be_written_through_a_linked_folder_is_refused(run: RunFolder, tmp_path: Path) -> None:
    for folder in (run.requests, run.checkpoints):
        folder.rmdir()
        folder.symlink_to(tmp_path)
    with pytest.raises(RunError, match="own"):
        requests.send(run, "pause")
    with pytest.raises(OSError, match="own"):
        checkpoints.save(run, 1, checkpoints.Contents(), "automatic")
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_reading_runs_imports_nothing_heavy() -> None:
    program = """
import sys, metarl_tui
from metarl_tui.runs import find, folder, journal, liveness, requests, summary
print([name for name in ("torch", "gymnasium", "numpy", "safetensors", "textual", "trainers.declarations",
                         "psutil", "importlib.metadata") if name in sys.modules])
print(metarl_tui.__version__)
"""
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    imported, version = shown.stdout.splitlines()
    assert imported == "[]"
    assert version[0].isdigit()


def test_a_written_configuration_is_json_that_people_can_read(run: RunFolder) -> None:
    content = (run.path / "run.json").read_bytes()
    assert orjson.loads(content)["trainer"] == "ppo"
    assert content.count(b"\n") > 5
