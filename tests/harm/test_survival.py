"""Where a worker in the background would not outlive its login or job, that is said."""

from __future__ import annotations

import getpass
import os
import shutil
from pathlib import Path

import pytest

from metarl_tui.app.farewell import farewell
from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.runs.process import write_launched, write_worker
from metarl_tui.survival import why_it_ends

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
MANAGER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u7.scope\n"
YES, NO = "[Login]\nKillUserProcesses=yes\n", "[Login]\nKillUserProcesses=no\n"
KILLS = {"etc/systemd/logind.conf": YES}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run whose worker is this process."""
    folder = RunFolder.create(tmp_path / "runs", RunConfig(trainer="ppo"))
    write_worker(folder)
    return folder


def _system(tmp_path: Path, files: dict[str, str], cgroup: str = SESSION, environ: str = "A=1\0") -> Path:
    root = tmp_path / "root"
    process = f"proc/{os.getpid()}"
    for name, content in {**files, f"{process}/cgroup": cgroup, f"{process}/environ": environ}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({}, False),
        ({"etc/systemd/logind.conf": YES}, True),
        ({"etc/systemd/logind.conf": "#KillUserProcesses=no\n"}, False),
        ({"usr/lib/systemd/logind.conf": "#KillUserProcesses=yes\n"}, True),
        ({"usr/lib/systemd/logind.conf": YES, "etc/systemd/logind.conf": NO}, False),
        ({"etc/systemd/logind.conf": NO, "etc/systemd/logind.conf.d/9.conf": YES}, True),
        ({"etc/systemd/logind.conf.d/1.conf": YES, "run/systemd/logind.conf.d/2.conf": NO}, False),
        ({"etc/systemd/logind.conf.d/1.conf": "#KillUserProcesses=yes\n"}, False),
        ({"etc/systemd/logind.conf": YES + "KillOnlyUsers=somebody else\n"}, False),
        ({"etc/systemd/logind.conf": YES + "KillExcludeUsers=me you\n"}, False),
    ],
)
def test_logind(
    run: RunFolder, tmp_path: Path, files: dict[str, str], ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "me")
    assert ("KillUserProcesses" in why_it_ends(run, _system(tmp_path, files))) is ends
    assert why_it_ends(run, _system(tmp_path, files, cgroup=MANAGER)) == ""


def test_a_job(run: RunFolder, tmp_path: Path) -> None:
    root = _system(tmp_path, {}, environ="A=1\0SLURM_JOB_ID=42\0")
    assert "job 42; in a batch script train with --no-ui" in why_it_ends(run, root)
    assert why_it_ends(run, _system(tmp_path, {}, environ="NO_SLURM_JOB_ID=42\0")) == ""


def test_a_worker_that_is_gone_or_only_launched(run: RunFolder, tmp_path: Path) -> None:
    root = _system(tmp_path, {}, environ="SLURM_JOB_ID=7\0")
    run.worker.unlink()
    assert why_it_ends(run, root) == ""
    write_launched(run, os.getpid())
    assert "job 7" in why_it_ends(run, root)


def test_the_line_left_behind_says_so(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(farewell(run, "running", "", 5, watched=True)) == 1
    monkeypatch.setattr("metarl_tui.app.farewell.why_it_ends", lambda _: "Slurm ends it with job 3")
    goes_on, but = farewell(run, "running", "", 5, watched=True)
    assert "goes on" in goes_on
    assert but == "but Slurm ends it with job 3"
    assert "replay it" in farewell(run, "finished", "", 5, watched=True)[0]
    shutil.rmtree(run.path)
    (gone,) = farewell(run, "lost", "its folder is gone", 5, watched=True)
    assert gone.endswith("lost at iteration 5: its folder is gone")
