"""The picture of an adaptation and the loss by inner step, at the playhead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_runs import write_run
from live_run import app_on, lines, text, until

from metarl_tui.app.pictures import draw_picture, read_picture
from metarl_tui.app.raster import row_text
from metarl_tui.app.widgets.picture_panel import by_inner_step
from metarl_tui.runs.folder import RunFolder
from metarl_tui.tape import Tape

REGIONS = {
    "type": "regions", "x": [-1.0, 1.0], "y": [-1.0, 1.0], "steps": 5, "loss": [0.7, 0.05],
    "before": ["f" * 40] * 20, "after": ["0" * 20 + "f" * 20] * 20,
    "support": [[-0.5, 0.5, 0], [0.5, -0.5, 1]],
}  # fmt: skip
CURVE = {
    "type": "curve", "x": [-1.0, 0.0, 1.0], "true": [0.0, 1.0, 0.0], "before": ["nan", 0.1, 0.1],
    "after": [0.0, 0.9, "inf"], "support": [[0.0, 1.0]], "steps": 1, "loss": [0.5, "nan"],
}  # fmt: skip
GLYPHS = {
    "type": "glyphs", "side": 8, "support": ["f" * 16, "0" * 16], "query": ["f" * 16, "0" * 16],
    "classes": [0, 1], "before": [1, 1], "after": [0, 0], "steps": 1, "loss": [1.4, 0.6],
}  # fmt: skip


def record(kind: str, iteration: int, **fields: Any) -> dict[str, Any]:
    return {"seq": 1, "time": 1000.0 + iteration, "iteration": iteration, "kind": kind, **fields}


def journal(pictures: dict[int, Any], last: int = 40) -> list[dict[str, Any]]:
    records = [record("status", 0, state="started"), record("status", 0, state="running")]
    for iteration in range(1, last + 1):
        values = {f"meta/loss_step_{step}": 1.0 / (step + 1) for step in range(4)}
        values |= {"meta/accuracy_pre": 0.5, "meta/accuracy_post": 0.9, "meta/loss_post": 0.25}
        records.append(record("metrics", iteration, values=values))
        if iteration in pictures:
            records.append(record("picture", iteration, picture=pictures[iteration]))
    records.append(record("status", last, state="finished"))
    return [{**one, "seq": number} for number, one in enumerate(records, 1)]


def run_with(runs_dir: Path, pictures: dict[int, Any]) -> RunFolder:
    config = {"trainer": "maml", "setup": {"task": "xor", "seed": 1}, "hyperparameters": {}}
    name = "20261122-154210-maml-xor-k3f9"
    return RunFolder(write_run(runs_dir, name, records=journal(pictures), config=config))


def drawn(picture: dict[str, Any], *, ascii: bool = False) -> list[str]:
    read = read_picture(picture)
    assert read is not None
    return [row_text(row) for row in draw_picture(read, 34, 10, ascii=ascii).codes]


@pytest.mark.parametrize("picture", [REGIONS, CURVE, GLYPHS])
def test_draws_each_kind_in_any_size(picture: dict[str, Any]) -> None:
    read = read_picture(picture)
    assert read is not None
    for width, height in ((0, 0), (1, 1), (8, 3), (9, 20), (34, 10), (120, 60)):
        for ascii in (False, True):
            canvas = draw_picture(read, width, height, ascii=ascii)
            assert canvas.codes.shape == (height, width)
    assert "".join(drawn(picture, ascii=True)).isascii()


def test_regions_show_the_class_at_each_place() -> None:
    rows = drawn(REGIONS, ascii=True)
    assert rows[0].startswith("before loss 0.7")
    assert "after loss 0.05" in rows[0]
    assert rows[1] == ":" * 16 + "  " + "." * 8 + ":" * 8
    assert rows[3][18 + 4] == "o"
    assert rows[7][18 + 12] == "x"


def test_glyphs_name_the_classes_before_and_after() -> None:
    assert "b > a" in drawn(GLYPHS, ascii=True)[-2]


@pytest.mark.parametrize(
    "fields",
    [
        None, [], "regions", 7, {}, {"type": "regions"}, {"type": ["regions"]},
        {**REGIONS, "before": ["f" * 40] * 19 + ["f"]},
        {**REGIONS, "before": ["f" * 40] * 10_000, "after": ["f" * 40] * 10_000},
        {**REGIONS, "after": ["g" * 40] * 20},
        {**REGIONS, "after": [1.0] * 20},
        {**REGIONS, "before": [], "after": []},
        {**REGIONS, "x": [1.0, -1.0]},
        {**REGIONS, "x": ["nan", 1.0]},
        {**REGIONS, "support": [[1.0]]},
        {**REGIONS, "support": [[0.0, 0.0, -1]]},
        {**REGIONS, "support": {"a": 1}},
        {**REGIONS, "loss": ["\x1b[2J", 1.0]},
        {**REGIONS, "steps": 10**400},
        {**CURVE, "true": ["nan"] * 3},
        {**CURVE, "x": [1.0, 1.0, 1.0]},
        {**CURVE, "x": [0.0, 1e300, "inf"]},
        {**CURVE, "after": [1.0]},
        {**GLYPHS, "side": 10**9},
        {**GLYPHS, "support": ["f"]},
        {**GLYPHS, "classes": [0]},
        {**GLYPHS, "support": []},
    ],
)  # fmt: skip
def test_refuses_what_is_no_picture(fields: object) -> None:
    assert read_picture(fields) is None


def test_extreme_curves_are_drawn() -> None:
    huge = {**CURVE, "true": [1e308, -1e308, 0.0], "before": ["-inf"] * 3, "after": [1e308, "inf", -1e308]}
    assert drawn(huge)
    assert drawn({**CURVE, "true": [0.0, 0.0, 0.0]})


def test_tape_keeps_pictures_and_drops_those_that_a_resume_undid() -> None:
    tape = Tape()
    tape.extend(record("picture", at, picture={"at": at}) for at in (1, 20, 40))
    assert tape.picture_at(0) is None
    assert tape.picture_at(39) == (20, {"at": 20})
    tape.extend([record("resumed", 25, **{"from": 25}), record("picture", 30, picture={"at": 30})])
    assert tape.picture_at(100) == (30, {"at": 30})
    tape.extend(record("picture", at, picture={}) for at in range(31, 20_000))
    assert len(tape._pictures) <= 1000
    newest = tape.picture_at(10**6)
    assert newest is not None
    assert newest[0] == 19_999


def test_losses_are_those_of_one_measurement() -> None:
    tape = Tape()
    tape.extend([record("metrics", 1, values={f"meta/loss_step_{n}": 9.0 - n for n in range(4)})])
    tape.extend([record("metrics", 2, values={f"meta/loss_step_{n}": 3.0 - n for n in range(2)})])
    assert by_inner_step(tape, "meta/loss", 1) == [9.0, 8.0, 7.0, 6.0]
    assert by_inner_step(tape, "meta/loss", 2) == [3.0, 2.0]
    assert by_inner_step(tape, "meta_test/loss", 2) == []


async def test_follows_the_playhead_and_turns_through_its_views(tmp_path: Path) -> None:
    folder = run_with(tmp_path, {1: {**REGIONS, "loss": [0.9, 0.8]}, 20: REGIONS})
    async with app_on(tmp_path, folder).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "5 steps at 20" in text(pilot))
        assert "after loss 0.05" in text(pilot)
        assert "v view" in lines(pilot)[-1]
        assert "0.5 → 0.9" in text(pilot)
        assert "loss step" not in text(pilot)
        await pilot.press("home")
        await until(pilot, lambda: "after loss 0.8" in text(pilot))
        await pilot.press("v")
        await until(pilot, lambda: "training 0.25" in text(pilot) and "╰─" in text(pilot))
        await pilot.press("v")
        await until(pilot, lambda: "training 0.25" not in text(pilot))
        await pilot.press("v")
        await until(pilot, lambda: "held-out task" in text(pilot))


async def test_lies_over_the_charts_on_a_narrow_screen(tmp_path: Path) -> None:
    folder = run_with(tmp_path, {20: REGIONS})
    async with app_on(tmp_path, folder).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "v view" in lines(pilot)[-1])
        assert "held-out task" not in text(pilot)
        screen = pilot.app.screen
        whole = screen.grid.region.right
        screen.body.add_class("-open")  # a steer panel that lies there without the focus gives way
        await pilot.press("v")
        await until(pilot, lambda: "held-out task" in text(pilot))
        await until(pilot, lambda: screen.grid.region.right <= screen.side.region.x)
        await pilot.press("escape")
        await until(pilot, lambda: "held-out task" not in text(pilot))
        await until(pilot, lambda: screen.grid.region.right == whole)


async def test_says_when_a_picture_cannot_be_drawn(tmp_path: Path) -> None:
    folder = run_with(tmp_path, {20: {**REGIONS, "after": ["\x1b[31m"]}})
    async with app_on(tmp_path, folder).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "picture can't be drawn" in text(pilot))


async def test_a_run_without_pictures_has_neither_panel_nor_key(tmp_path: Path) -> None:
    folder = RunFolder(write_run(tmp_path, iterations=20, end="finished"))
    async with app_on(tmp_path, folder).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "iteration 20" in text(pilot))
        assert "v view" not in lines(pilot)[-1]
        assert "held-out task" not in text(pilot)
