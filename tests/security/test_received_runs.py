"""A run from somebody else is data: looking at it runs nothing of it and writes nothing outside of it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from received import (
    CHECKPOINT_FILES,
    DISGUISES,
    GIGABYTE,
    IMPASSES,
    Disguise,
    Invoke,
    contents,
    links,
    lock_in_a_loop,
    received,
    replace,
    the_last_number,
)

from metarl_tui.runs import checkpoints
from metarl_tui.runs.requests import pending

MEMORY = 600 << 20
"""Bytes by which a process may grow; less than one of the sparse files has."""


def looks(run: Path, picture: Path) -> list[list[str]]:
    """Every command that looks at a run."""
    path = str(run)
    return [
        ["list"], ["list", "--json"], ["show", path], ["show", path, "--json"], ["plot", path], ["log", path],
        ["screenshot", path, str(picture), "--width", "120", "--height", "40"],
    ]  # fmt: skip


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
def test_looking_runs_nothing_and_writes_nothing(
    disguise: Disguise, runs_dir: Path, outside: Path, witness: Path, tmp_path: Path, invoke: Invoke
) -> None:
    run = received(runs_dir)
    disguise(run.path, outside)
    before = contents(outside)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for words in looks(run.path, tmp_path / "picture.svg"):
        result = invoke(*words)
        assert result.exit_code in (0, 1, 2), words
        assert "Traceback" not in result.output
    assert not witness.exists()
    assert contents(outside) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "outside", "picture.svg"}
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) << 10 < MEMORY


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
def test_its_checkpoints_and_requests_are_read_as_data(
    disguise: Disguise, runs_dir: Path, outside: Path, witness: Path
) -> None:
    run = received(runs_dir)
    disguise(run.path, outside)
    before = contents(outside)
    for checkpoint in checkpoints.listed(run):
        try:
            found = checkpoints.load(checkpoint)
        except checkpoints.DamagedCheckpoint:
            continue
        assert all(array.nbytes <= GIGABYTE for array in found.weights.values())
    checkpoints.set_aside_above(run, 0)
    checkpoints.thin(run, at_most=0)
    assert pending(run, []) == []
    assert contents(outside) == before
    assert not witness.exists()


def test_a_checkpoint_larger_than_a_quarter_of_the_memory_is_not_read(runs_dir: Path) -> None:
    run = received(runs_dir)
    manifest = run.path / CHECKPOINT_FILES[0]
    content = manifest.read_bytes()
    replace(run.path, CHECKPOINT_FILES[0], content.replace(b'"bytes": 15', b'"bytes": 99999999999999', 1))
    assert manifest.read_bytes() != content
    with pytest.raises(checkpoints.DamagedCheckpoint, match="does not fit"):
        checkpoints.load(checkpoints.listed(run)[0])


def test_deleting_it_removes_links_and_not_what_they_lead_to(
    runs_dir: Path, outside: Path, invoke: Invoke
) -> None:
    run = received(runs_dir)
    links(run.path, outside)
    before = contents(outside)
    assert invoke("delete", str(run.path), "--yes").exit_code == 2  # the lock is a link
    (run.path / "lock").unlink()
    assert invoke("delete", str(run.path), "--yes").exit_code == 0
    assert not run.path.exists()
    assert contents(outside) == before


@pytest.mark.parametrize("disguise", IMPASSES, ids=lambda disguise: disguise.__name__)
def test_what_no_worker_can_go_on_from_is_said_in_one_line(
    disguise: Disguise, runs_dir: Path, outside: Path, invoke: Invoke
) -> None:
    run = received(runs_dir)
    disguise(run.path, outside)
    path = str(run.path)
    looks, resumes = [["list"], ["show", path]], [["resume", path, "--no-ui"]]
    if disguise in (lock_in_a_loop, the_last_number):  # a process is started for it, which takes its time
        resumes.append(["resume", path])
    for words in looks + resumes:
        result = invoke(*words)
        said = result.stderr.splitlines()
        if words in looks:
            assert result.exit_code == 0
            assert run.short_id in result.stdout
        else:
            assert result.exit_code in (1, 2), words
            assert len(said) == 1
            assert said[0].startswith("error: ")
        assert "Traceback" not in result.output
        assert not run.log.exists() or "Traceback" not in run.log.read_text()
    deleted = invoke("delete", path, "--yes")
    assert deleted.exit_code == (0 if not run.path.exists() else 2)
    assert len(deleted.stderr.splitlines()) == (deleted.exit_code != 0)
    assert not run.path.exists() or run.journal.exists()
