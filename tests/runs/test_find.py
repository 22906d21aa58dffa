from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from metarl_tui.runs.find import find_run, list_runs
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder


def make(runs_dir: Path, folder: str, name: str = "", **config: Any) -> RunFolder:
    path = runs_dir / folder
    path.mkdir(parents=True)
    (path / "run.json").write_bytes(RunConfig(trainer="ppo", name=name, version="1", **config).to_json())
    return RunFolder(path)


@pytest.fixture
def three(runs_dir: Path) -> list[RunFolder]:
    return [
        make(runs_dir, "20261122-154210-ppo-cartpole-k3f9", "baseline"),
        make(runs_dir, "20261122-154211-ppo-cartpole-m8qz", "baseline"),
        make(runs_dir, "20261123-090000-maml-sinusoid-k4xx", "waves"),
    ]


def test_runs_are_listed_newest_first_bad_ones_included(runs_dir: Path, three: list[RunFolder]) -> None:
    (runs_dir / "notes.txt").write_text("")
    (runs_dir / "empty").mkdir()
    bad = make(runs_dir, "20261124-000000-ppo-x-aaaa")
    (bad.path / "run.json").write_text("{")
    (runs_dir / "20261121-000000-ppo-linked-bbbb").symlink_to(three[0].path)
    renamed = make(runs_dir, "my own name")
    listed = [run.path.name for run in list_runs(runs_dir)]
    names = [run.path.name for run in (bad, *reversed(three))]
    assert [name for name in listed if name in names] == names
    assert set(listed) == {*names, "20261121-000000-ppo-linked-bbbb", renamed.path.name}
    assert list_runs(runs_dir / "none") == []
    with pytest.raises(RunError, match=re.escape("notes.txt")):
        list_runs(runs_dir / "notes.txt")


def test_a_run_is_found_by_all_that_people_call_it(runs_dir: Path, three: list[RunFolder]) -> None:
    first, second, third = three
    assert find_run(runs_dir, str(first.path)) == first
    assert find_run(runs_dir, second.path.name) == second
    assert find_run(runs_dir, "k3f9") == first
    assert find_run(runs_dir, "20261123") == third
    assert find_run(runs_dir, "waves") == third
    assert find_run(runs_dir, " latest ") == third


def test_the_order_of_the_rules(
    runs_dir: Path, three: list[RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = make(runs_dir, "20261125-000000-ppo-x-zzzz", "k3f9")
    assert find_run(runs_dir, "k3f9") == three[0]
    prefixed = make(runs_dir, "zzzz-other-yyyy")
    assert find_run(runs_dir, "zzzz") == named
    assert find_run(runs_dir, "zzzz-") == prefixed
    make(runs_dir, "20991126-000000-ppo-x-wwww", "latest")  # one without a date is as old as its folder
    assert find_run(runs_dir, "latest").short_id == "wwww"
    elsewhere = make(tmp_path, "k3f9")
    monkeypatch.chdir(tmp_path)
    assert find_run(runs_dir, "k3f9").path.resolve() == elsewhere.path
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "run.json").write_text("{}")
    assert find_run(runs_dir, "latest").short_id == "wwww"


def test_several_matches_are_listed(runs_dir: Path, three: list[RunFolder]) -> None:
    for reference, matches in (("2026112", three), ("20261122", three[:2]), ("baseline", three[:2])):
        with pytest.raises(RunError) as caught:
            find_run(runs_dir, reference)
        for run in three:
            assert (run.id in str(caught.value)) == (run in matches)
        assert f"{len(matches)} runs" in str(caught.value)
    for number in range(20):
        make(runs_dir, f"2027-{number}-same")
    with pytest.raises(RunError, match="and 12 more"):
        find_run(runs_dir, "same")


def test_no_match_names_the_nearest(runs_dir: Path, three: list[RunFolder]) -> None:
    for reference, near in (("k3f8", "k3f9"), ("wavse", "waves"), ("#####", "k4xx")):
        with pytest.raises(RunError, match=near):
            find_run(runs_dir, reference)
    with pytest.raises(RunError, match="empty"):
        find_run(runs_dir, "")
    with pytest.raises(RunError, match="no runs in"):
        find_run(runs_dir / "none", "latest")


@pytest.mark.parametrize(
    "reference", ["..", ".", "/", "../..", "a/b", "\0", "~nobody-here/x", "x" * 5_000, "\x1b[31m"]
)
def test_hostile_references_find_nothing(runs_dir: Path, three: list[RunFolder], reference: str) -> None:
    with pytest.raises(RunError) as caught:
        find_run(runs_dir, reference)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_listing_many_runs_reads_none_of_them(runs_dir: Path) -> None:
    runs_dir.mkdir()
    for number in range(1_000):
        path = runs_dir / f"20261122-{number:06}-ppo-x-{number:04}"
        path.mkdir()
        (path / "run.json").touch()
    began = time.perf_counter()
    assert len(list_runs(runs_dir)) == 1_000
    assert find_run(runs_dir, "0007").id.endswith("0007")
    assert time.perf_counter() - began < 1.0


def test_a_group_is_no_run_and_its_runs_are_named(runs_dir: Path, three: list[RunFolder]) -> None:
    for seed in (1, 2):
        setup = {"seed": seed}
        make(
            runs_dir, f"20261122-15421{seed}-ppo-x-aaa{seed}", f"trio seed {seed}", group="trio", setup=setup
        )
    with pytest.raises(RunError, match=r"^trio is a group of 2 runs; name one: .*aaa1 .*aaa2 \("):
        find_run(runs_dir, "trio")
