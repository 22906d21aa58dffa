"""Episodes before and after adapting, drawn, and the return by inner step, at the playhead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_runs import write_run
from live_run import app_on, lines, text, until

from metarl_tui.app.pictures import Picture, draw_picture, read_picture
from metarl_tui.app.raster import row_text
from metarl_tui.app.widgets import cells
from metarl_tui.runs.folder import RunFolder

PATHS = {
    "type": "paths", "goal": [1.0, 1.0], "limits": [-2.0, 2.0, -2.0, 2.0], "steps": 2,
    "stages": [
        {"step": 0, "return": -40.4, "path": "80808000", "ends": ""},
        {"step": 1, "return": -12.0, "path": "8080ff80", "ends": ""},
        {"step": 2, "return": -3.5, "path": "8080bfbf", "ends": "0000"},
    ],
}  # fmt: skip
POLES = {
    "type": "poles", "horizon": 200, "track": 2.4, "angle": 0.2, "steps": 1,
    "stages": [
        {"step": 0, "return": 21.5, "length": 25, "moments": [0, 8, 16, 24],
         "x": [0.0, 0.0, 0.0, 0.1], "theta": [0.0, 0.05, 0.1, 0.19]},
        {"step": 1, "return": 200.0, "length": 200, "moments": [*range(0, 200, 8), 199],
         "x": [0.0] * 26, "theta": [0.0] * 26},
    ],
}  # fmt: skip


def read(fields: dict[str, Any]) -> Picture:
    picture = read_picture(fields)
    assert picture is not None
    return picture


def drawn(fields: dict[str, Any], width: int = 34, height: int = 9, *, ascii: bool = True) -> list[str]:
    return [row_text(row) for row in draw_picture(read(fields), width, height, ascii=ascii).codes]


def changed(fields: dict[str, Any], **stage: Any) -> dict[str, Any]:
    """``fields`` with something else in its first stage."""
    return {**fields, "stages": [{**fields["stages"][0], **stage}, *fields["stages"][1:]]}


@pytest.mark.parametrize("fields", [PATHS, POLES])
def test_draws_each_kind_in_any_size(fields: dict[str, Any]) -> None:
    for width, height in ((0, 0), (1, 1), (8, 3), (9, 20), (20, 4), (34, 10), (120, 60)):
        for ascii in (False, True):
            canvas = draw_picture(read(fields), width, height, ascii=ascii)
            assert canvas.codes.shape == (height, width)
    assert "".join(drawn(fields)).isascii()


def test_paths_lead_from_the_start_to_the_goal() -> None:
    rows = drawn(PATHS)
    # A square of 18 × 9 cells with the start in its middle and the goal three quarters out.
    assert rows[4][9] == "+"
    assert rows[2][13] == "*"
    assert rows[4][10:18] == "-" * 8
    canvas = draw_picture(read(PATHS), 34, 9)
    assert (canvas.tones[5:8, 9] == cells.FAINT).all()
    assert canvas.tones[3, 11] == cells.LINE
    assert canvas.tones[8, 0] == cells.LINE
    assert rows[3].endswith("before    -40.4")
    assert rows[4].split()[-1] == "-12"
    assert rows[5].split()[-3:] == ["2", "steps", "-3.5"]


def test_with_one_stage_it_is_the_last_and_the_first() -> None:
    (row,) = [row for row in drawn({**PATHS, "stages": PATHS["stages"][:1], "steps": 0}) if "before" in row]  # type: ignore[index]
    assert "-40.4" in row


def test_poles_stand_as_long_as_the_episode_lasts() -> None:
    rows = drawn(POLES)
    canvas = draw_picture(read(POLES), 34, 9)
    first, second = canvas.tones[:3], canvas.tones[4:8]
    assert rows[0].startswith("before 21.5")
    assert rows[1].startswith("fell")
    assert rows[4].startswith("1 step 200")
    assert rows[5].startswith("stands")
    inked = [column for column in range(15, 34) if (first[:, column] == cells.FAULT).any()]
    assert inked
    assert max(inked) < 24
    assert not (second == cells.FAULT).any()
    standing = [column for column in range(15, 34) if (second == cells.LINE)[:, column].any()]
    assert min(standing) < 20
    assert max(standing) > 29


def test_a_cart_that_left_the_track_did_not_fall() -> None:
    off = changed(POLES, x=[0.0, 1.0, 2.0, 2.39], theta=[0.0, 0.01, 0.02, 0.03])
    assert drawn(off)[1].startswith("off the track")


def test_where_rows_are_few_the_first_stage_and_the_last_are_kept() -> None:
    stages = [{**POLES["stages"][1], "step": step, "return": float(step)} for step in range(4)]  # type: ignore[index]
    said = "".join(drawn({**POLES, "stages": stages}, 34, 5))
    assert "before" in said
    assert "3 steps" in said
    assert "1 step " not in said


@pytest.mark.parametrize(
    "fields",
    [
        {**PATHS, "goal": [1.0]},
        {**PATHS, "goal": ["nan", 1.0]},
        {**PATHS, "limits": [1.0, -1.0, 0.0, 1.0]},
        {**PATHS, "limits": [0.0, 1.0, 0.0, 0.0]},
        {**PATHS, "stages": []},
        {**PATHS, "stages": PATHS["stages"] * 9},  # type: ignore[operator]
        {**PATHS, "stages": {"step": 0}},
        {**PATHS, "steps": -1},
        changed(PATHS, path="808"),
        changed(PATHS, path="zzzz"),
        changed(PATHS, path=7),
        changed(PATHS, path="80" * 100_000),
        changed(PATHS, ends=None),
        changed(PATHS, step="1"),
        changed(PATHS, **{"return": "\x1b[2J"}),
        {**POLES, "horizon": 0},
        {**POLES, "angle": 0.0},
        {**POLES, "track": "inf"},
        changed(POLES, length=201),
        changed(POLES, moments=[]),
        changed(POLES, moments=[3, 2, 1, 0]),
        changed(POLES, moments=[0, 8, 16, 10**9]),
        changed(POLES, theta=[0.0]),
        changed(POLES, theta=[0.0, 0.0, 0.0, "nan"]),
    ],
)
def test_refuses_what_is_no_picture(fields: dict[str, Any]) -> None:
    assert read_picture(fields) is None


def test_absurd_pictures_are_drawn() -> None:
    assert drawn(changed(PATHS, path=""))
    assert drawn({**PATHS, "goal": [9e11, -9e11]})
    assert "nan" in "".join(drawn(changed(PATHS, **{"return": "nan"})))
    assert drawn(changed(POLES, theta=[9e9, -9e9, 0.0, 9e11]))


def run_with(runs_dir: Path, pictures: dict[int, Any]) -> RunFolder:
    records: list[dict[str, Any]] = []

    def record(kind: str, iteration: int, **fields: Any) -> None:
        time = 1000.0 + iteration
        records.append(
            {"seq": len(records) + 1, "time": time, "iteration": iteration, "kind": kind, **fields}
        )

    for state in ("started", "running"):
        record("status", 0, state=state)
    for iteration in range(1, 41):
        values = {f"meta/return_step_{step}": -40.0 + 10 * step for step in range(3)}
        values |= {"meta/return_pre": -40.0, "meta/return_post": -20.0, "meta_test/return_step_0": -41.5}
        record("metrics", iteration, values=values)
        if iteration in pictures:
            record("picture", iteration, picture=pictures[iteration])
    record("status", 40, state="finished")
    config = {"trainer": "maml-ppo", "setup": {"env": "navigation", "seed": 1}, "hyperparameters": {}}
    name = "20261122-154210-maml-ppo-navigation-k3f9"
    return RunFolder(write_run(runs_dir, name, records=records, config=config))


async def test_follows_the_playhead_and_turns_to_the_return_by_step(tmp_path: Path) -> None:
    folder = run_with(tmp_path, {1: {**PATHS, "stages": PATHS["stages"][:1], "steps": 0}, 20: PATHS})  # type: ignore[index]
    async with app_on(tmp_path, folder).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "2 steps at 20" in text(pilot))
        assert "◆ goal" in text(pilot)
        assert "-40 → -20" in text(pilot)
        assert "return step" not in text(pilot)
        await pilot.press("home")
        await until(pilot, lambda: "0 steps at 1" in text(pilot))
        await pilot.press("v")
        await until(pilot, lambda: "return by inner step" in text(pilot) and "held-out -41.5" in text(pilot))
        assert "training -20" in text(pilot)
        await pilot.press("v")
        await until(pilot, lambda: "return by inner step" not in text(pilot))


async def test_lies_over_the_charts_on_a_narrow_screen(tmp_path: Path) -> None:
    folder = run_with(tmp_path, {20: PATHS})
    async with app_on(tmp_path, folder).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "v view" in lines(pilot)[-1])
        assert "◆ goal" not in text(pilot)
        await pilot.press("v")
        await until(pilot, lambda: "◆ goal" in text(pilot))
