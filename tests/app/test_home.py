"""The home screen: the runs of a folder."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest
from fake_runs import write_run
from live_run import LiveRun, app_on, lines, text, until

from metarl_tui.app.catalogue import Catalogue, Entry, age, sparkline
from metarl_tui.app.widgets.run_list import RunList
from metarl_tui.runs import summary
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.process import write_worker


def add_run(runs_dir: Path, short_id: str, day: int = 20, state: str = "finished", **config) -> RunFolder:
    path = write_run(
        runs_dir, f"202611{day}-154210-ppo-cartpole-{short_id}", iterations=30, end=state, config=config
    )
    folder = RunFolder(path)
    summary.write(
        folder,
        summary.Summary(state=state, iteration=30, total=500, best=487.0, objective="eval/return_mean",
                        sparkline=[1.0, 2.0, 3.0]),
    )  # fmt: skip
    return folder


async def test_says_what_to_type_when_there_is_nothing(tmp_path: Path) -> None:
    async with app_on(tmp_path / "none").run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "metarl-tui train ppo" in text(pilot))
        assert "enter" not in lines(pilot)[-1]
        await pilot.press("enter", "D", "down")
        assert "q quit" in lines(pilot)[-1]


async def test_lists_newest_first_with_what_is_known(tmp_path: Path) -> None:
    add_run(tmp_path, "aaaa", 20)
    add_run(tmp_path, "bbbb", 22, name="lower clip", parent={"run": "20261120-1-ppo-aaaa", "iteration": 12})
    async with app_on(tmp_path).run_test(size=(140, 30)) as pilot:
        await until(pilot, lambda: "finished" in text(pilot) and "2 runs" in text(pilot))
        rows = lines(pilot)
        newest = next(row for row in rows if "lower clip" in row)
        assert rows.index(newest) < rows.index(next(row for row in rows if "aaaa  " in row))
        for part in ("● finished", "ppo CartPole-v1", "30", "487", "▁▄▇", "aaaa@12"):
            assert part in newest


async def test_enter_replays_what_has_ended_and_escape_comes_back(tmp_path: Path) -> None:
    add_run(tmp_path, "aaaa", 20)
    add_run(tmp_path, "bbbb", 22)
    async with app_on(tmp_path).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "enter replay" in text(pilot))
        await pilot.press("down", "enter")
        await until(pilot, lambda: "playing" in text(pilot))
        assert pilot.app.run_screen.folder.short_id == "aaaa"
        assert "esc back" in lines(pilot)[-1]
        await pilot.press("escape")
        await until(pilot, lambda: "2 runs" in text(pilot))
        await pilot.press("q")
    assert (pilot.app.exit_code, pilot.app.lines) == (0, [])


async def test_a_run_that_trains_is_watched_and_not_deleted(tmp_path: Path) -> None:
    live = LiveRun(tmp_path)
    try:
        async with app_on(tmp_path).run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "● running" in text(pilot))
            assert "D delete" not in lines(pilot)[-1]
            live.train(7)
            live.heart.beat()
            await until(pilot, lambda: " 67" in text(pilot))
            await pilot.press("enter")
            await until(pilot, lambda: "live  67" in text(pilot))
    finally:
        live.close()


async def test_delete_asks(tmp_path: Path) -> None:
    folder = add_run(tmp_path, "aaaa")
    async with app_on(tmp_path).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "D delete" in text(pilot))
        await pilot.press("D")
        await until(pilot, lambda: "Delete aaaa" in text(pilot))
        await pilot.press("x")
        assert folder.path.exists()
        await pilot.press("D", "y")
        await until(pilot, lambda: "No runs here yet" in text(pilot))
        assert not folder.path.exists()


async def test_unreadable_runs_are_marked(tmp_path: Path) -> None:
    add_run(tmp_path, "aaaa", 22)
    bad = tmp_path / "20261121-000000-ppo-x-bad1"
    bad.mkdir()
    (bad / "run.json").write_text('{"trainer": "\x1b[31m"')
    async with app_on(tmp_path).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "▲ unreadable" in text(pilot))
        await pilot.press("down", "enter")
        assert "2 runs" in text(pilot)
        assert "\x1b" not in text(pilot)


async def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    add_run(tmp_path, "aaaa", name="[@click=app.quit]x[/]\x1b[2J\n\x9b1m", subject="[red]\x07z")
    async with app_on(tmp_path).run_test(size=(140, 30)) as pilot:
        await until(pilot, lambda: "[@click=app.quit" in text(pilot))
        assert "[red]z" in text(pilot)
        assert all(character.isprintable() for line in lines(pilot) for character in line)


@pytest.mark.parametrize("size", [(20, 6), (40, 10), (80, 24), (200, 60)])
async def test_every_size_shows_the_state(tmp_path: Path, size: tuple[int, int]) -> None:
    add_run(tmp_path, "aaaa")
    async with app_on(tmp_path).run_test(size=size) as pilot:
        await until(pilot, lambda: "finished" in text(pilot))
        assert len(lines(pilot)) == size[1]


async def test_thousands_of_runs(tmp_path: Path) -> None:
    """Those in view come first; the rest in the background. (10,000 take about five times as long.)"""
    config = orjson.dumps({"trainer": "ppo", "created": 1.0, "subject": "CartPole-v1"})
    for index in range(2000):
        folder = tmp_path / f"2026{index:04}-000000-ppo-cartpole-{index:04}"
        folder.mkdir()
        (folder / "run.json").write_bytes(config if index % 20 else b"{")
        (folder / "summary.json").write_bytes(b'{"state": "finished", "iteration": 5}')
    began = time.monotonic()
    async with app_on(tmp_path).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "finished" in text(pilot))
        assert time.monotonic() - began < 3
        await until(pilot, lambda: lines(pilot)[0].strip().startswith("metarl-tui  2000 runs  "))
        assert time.monotonic() - began < 6
        await pilot.press("end")
        await until(pilot, lambda: " 0001 " in text(pilot))


async def test_a_run_resumed_elsewhere_comes_back_to_life(tmp_path: Path) -> None:
    live = LiveRun(tmp_path)
    try:
        live.folder.worker.rename(tmp_path / "worker.json")
        stopped = summary.Summary(state="stopped", iteration=60, total=500)
        summary.write(live.folder, stopped)
        for index in range(40):
            add_run(tmp_path, f"n{index:03}", 23)
        async with app_on(tmp_path).run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: lines(pilot)[0].strip().startswith("metarl-tui  41 runs  "))
            table = pilot.app.query_one(RunList)
            assert live.folder not in table.in_view
            assert table.entries[live.folder].state == "stopped"
            write_worker(live.folder)
            live.heart.beat()
            await until(pilot, lambda: table.entries[live.folder].state == "running")
    finally:
        live.close()


async def test_a_run_that_is_still_being_copied_is_read_when_it_is_whole(tmp_path: Path) -> None:
    folder = add_run(tmp_path, "aaaa")
    whole = (folder.path / "run.json").read_bytes()
    (folder.path / "run.json").write_bytes(whole[:50])
    async with app_on(tmp_path).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "▲ unreadable" in text(pilot))
        (folder.path / "run.json").write_bytes(whole)
        await until(pilot, lambda: "● finished" in text(pilot))
        assert "unreadable" not in text(pilot)


async def test_the_chosen_run_is_read_again_when_its_screen_is_left(tmp_path: Path) -> None:
    folder = add_run(tmp_path, "aaaa", state="stopped")
    async with app_on(tmp_path).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "stopped" in text(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "esc back" in lines(pilot)[-1])
        summary.write(folder, summary.Summary(state="finished", iteration=31, total=500))
        await pilot.press("escape")
        await until(pilot, lambda: "● finished" in text(pilot), 1.5)


async def test_lost_runs_out_of_view_are_read_now_and_then_and_those_in_view_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reading is slow here, so that all of them together take a while."""
    config = orjson.dumps({"trainer": "ppo", "created": 1.0, "subject": "CartPole-v1"})
    for index in range(60):
        folder = tmp_path / f"2026{index:04}-000000-ppo-cartpole-{index:04}"
        folder.mkdir()
        (folder / "run.json").write_bytes(config)
    times: dict[str, int] = {}
    read = Catalogue.read

    def slowly(catalogue: Catalogue, folder: RunFolder) -> Entry:
        times[folder.short_id] = times.get(folder.short_id, 0) + 1
        time.sleep(0.005)
        return read(catalogue, folder)

    monkeypatch.setattr(Catalogue, "read", slowly)
    async with app_on(tmp_path).run_test(size=(100, 20)) as pilot:
        await until(pilot, lambda: len(times) == 60)
        table = pilot.app.query_one(RunList)
        assert table.run is not None
        assert not table.entries[table.run].over
        await until(pilot, lambda: times["0059"] >= 5)
        assert times["0000"] <= 2


def test_sparkline_scales_and_skips_what_is_not_finite() -> None:
    assert sparkline([0, 1, 2], 10) == "▁▄▇"
    assert sparkline([1, 1], 10) == "▄▄"
    assert sparkline([0, 9, 9, 9, 9, 9], 3) == "▁▇▇"
    assert sparkline([1.7e308] * 6 + [-1.7e308] * 6, 2) == "▄▄"
    assert sparkline([float("nan"), 0, float("inf"), 3], 10) == " ▁ ▇"
    assert len(sparkline(list(range(1000)), 24)) == 24
    assert sparkline([], 10) == sparkline([1.0], 0) == ""


def test_age() -> None:
    assert [age(0, now) for now in (5, 65, 7300, 200_000, 4e8)] == ["5 s", "1 m", "2 h", "2 d", "12 y"]
