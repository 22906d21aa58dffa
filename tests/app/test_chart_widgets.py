"""Charts, their grid and the tape bar, as they stand on a screen."""

from __future__ import annotations

from typing import Any

import pytest
from fake_runs import HYPERPARAMETERS, run_records
from textual.app import App, ComposeResult
from textual.geometry import Region

from metarl_tui.app.widgets import chart_grid
from metarl_tui.app.widgets.chart import Chart, Label, labels_placed
from metarl_tui.app.widgets.chart_grid import ChartGrid
from metarl_tui.app.widgets.tape_bar import TapeBar
from metarl_tui.playhead import Playhead
from metarl_tui.tape import Tape
from trainers.hyperparameters import TRAINERS

CHARTS = TRAINERS["ppo"].charts


def tape_of(iterations: int = 184, **what: Any) -> Tape:
    tape = Tape(HYPERPARAMETERS)
    tape.extend(run_records(iterations, **what))
    return tape


def live(tape: Tape) -> Playhead:
    head = Playhead()
    head.advance(0, tape)
    return head


class Screen(App[None]):
    """A grid of charts above the tape."""

    CSS = "TapeBar { dock: bottom; }"

    def __init__(self, keys: tuple[str, ...] = CHARTS, *, ascii: bool = False) -> None:
        super().__init__()
        self.grid, self.bar = ChartGrid(keys, ascii=ascii), TapeBar(ascii=ascii)
        self.sought: list[int] = []

    def compose(self) -> ComposeResult:
        yield self.grid
        yield self.bar

    def on_tape_bar_seek(self, message: TapeBar.Seek) -> None:
        self.sought.append(message.iteration)

    def update(self, tape: Tape, head: Playhead) -> None:
        self.grid.update(tape, head)
        self.bar.update(tape, head)


def text_of(bar: TapeBar) -> list[str]:
    return [bar.render_line(y).text for y in range(bar.size.height)]


def lines_of(grid: ChartGrid, chart: Chart) -> list[str]:
    """What the grid shows where the chart stands."""
    left, top, width, height = chart.region
    return [grid.render_line(y).text[left : left + width] for y in range(top, top + height)]


async def test_a_chart_says_what_how_much_and_when() -> None:
    app, tape = Screen(("train/clip_fraction",)), tape_of()
    async with app.run_test(size=(60, 16)) as pilot:
        app.update(tape, live(tape))
        await pilot.pause()
        (chart,) = [chart for chart in app.grid.charts if chart.key == "train/clip_fraction"]
        lines = lines_of(app.grid, chart)
        assert lines[0].startswith("clip fraction")
        assert "ε .2→.1" in lines[0]
        assert lines[0].endswith(f"{tape.value_at('train/clip_fraction', 184):.3g}")
        assert "╎" in "".join(lines)
        assert lines[-1].split() == ["1", "92", "184"]
        assert lines[-2].lstrip().startswith("╰──")
        assert all(len(line) == chart.region.width for line in lines)
        label = lines[0].index("ε .2→.1") + 3
        assert any(line[column] == "╎" for line in lines[1:] for column in range(label - 2, label + 3))


async def test_the_playhead_shows_its_moment() -> None:
    app, tape = Screen(), tape_of()
    async with app.run_test(size=(60, 16)) as pilot:
        head = live(tape)
        app.update(tape, head)
        head.seek(60, tape)
        app.update(tape, head)
        await pilot.pause()
        (chart,) = app.grid.charts
        assert lines_of(app.grid, chart)[0].endswith(f"{tape.value_at('rollout/ep_rew_mean', 60):.3g}")
        assert "│" in "".join(line[10:] for line in lines_of(app.grid, chart)[1:-2])
        assert "held" in text_of(app.bar)[0]


async def test_nothing_is_repainted_when_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    app, tape = Screen(), tape_of()
    async with app.run_test(size=(150, 44)) as pilot:
        app.update(tape, live(tape))
        await pilot.pause()
        regions: list[tuple[Region, ...]] = []
        monkeypatch.setattr(ChartGrid, "refresh", lambda self, *where, **_: regions.append(where))
        monkeypatch.setattr(TapeBar, "refresh", lambda self, *where, **_: regions.append(where))
        app.update(tape, live(tape))
        app.grid.repaint()
        assert regions == []
        tape.extend(run_records(186)[-2:])
        app.update(tape, live(tape))
        assert regions
        assert all(where and where[0].height == 1 for where in regions)


@pytest.mark.parametrize(
    ("size", "columns", "count"), [((80, 24), 1, 2), ((60, 16), 1, 1), ((120, 40), 2, 6), ((200, 60), 3, 15)]
)
async def test_charts_are_laid_out_by_size(size: tuple[int, int], columns: int, count: int) -> None:
    app, tape = Screen(), tape_of()
    async with app.run_test(size=size) as pilot:
        app.update(tape, live(tape))
        await pilot.pause()
        charts = app.grid.charts
        assert len(charts) == count
        assert len({chart.region.x for chart in charts}) == columns
        assert all(chart.region.height >= 7 for chart in charts)
        bottom = max(chart.region.bottom for chart in charts)
        assert all(chart.shows_iterations == (chart.region.bottom == bottom) for chart in charts)


async def test_pages_zoom_and_selection() -> None:
    app, tape = Screen(), tape_of()
    async with app.run_test(size=(80, 24)) as pilot:
        app.update(tape, live(tape))
        await pilot.pause()
        grid = app.grid
        assert grid.shown == list(CHARTS[:2])
        grid.page(1)
        assert grid.shown == list(CHARTS[2:4])
        grid.page(-1)
        grid.page(-1)
        assert grid.shown == grid.keys[-2:]
        grid.page(1)
        grid.select(1)
        grid.zoom()
        await pilot.pause()
        assert grid.shown == [CHARTS[1]]
        assert [chart.region.height for chart in grid.charts] == [grid.size.height]
        grid.page(1)
        assert grid.selected == CHARTS[2]
        grid.zoom()
        await pilot.pause()
        assert grid.shown == list(CHARTS[2:4])


async def test_charts_seen_before_are_there_before_they_are_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, tape = Screen(), tape_of()
    async with app.run_test(size=(150, 44)) as pilot:
        app.update(tape, live(tape))
        app.grid.settle()
        await pilot.pause()
        first = [app.grid.render_line(y).text for y in range(app.grid.size.height)]
        app.grid.page(1)
        app.grid.settle()
        other = [app.grid.render_line(y).text for y in range(app.grid.size.height)]
        monkeypatch.setattr(chart_grid, "_KEY_SECONDS", 0.0)
        drawn: list[str] = []
        monkeypatch.setattr(Chart, "draw", lambda chart, *_: drawn.append(chart.key))
        monkeypatch.setattr(app.grid, "set_timer", lambda *_: None)
        for delta, expected in ((-1, first), (1, other), (-1, first)):
            app.grid.page(delta)
            assert drawn == []
            assert [app.grid.render_line(y).text for y in range(app.grid.size.height)] == expected
        app.grid.settle()
        assert sorted(drawn) == sorted(app.grid.shown)


async def test_a_chart_chosen_again_shows_the_tape_of_now() -> None:
    app, tape = Screen(), tape_of()
    async with app.run_test(size=(150, 44)) as pilot:
        head = live(tape)
        app.grid.can_focus = True
        app.grid.focus()
        await pilot.pause()
        app.update(tape, head)
        app.grid.settle()
        app.grid.select(1)
        head.seek(60, tape)
        app.update(tape, head)
        app.grid.settle()
        app.grid.select(-1)
        app.grid.settle()
        await pilot.pause()
        value = f"{tape.value_at(CHARTS[0], 60):.3g}"
        assert lines_of(app.grid, app.grid.charts[0])[0].endswith(value)


async def test_a_metric_without_a_chart_gets_one_at_the_end() -> None:
    app, tape = Screen(), tape_of()
    tape.extend([{"kind": "metrics", "iteration": 185, "values": {"mine/own_\x1b[1mmetric": 1.0}}])
    async with app.run_test(size=(80, 24)) as pilot:
        app.update(tape, live(tape))
        assert app.grid.keys[: len(CHARTS)] == list(CHARTS)
        extra = app.grid.keys[len(CHARTS) :]
        assert "train/grad_norm" in extra
        assert not {"rollout/ep_rew_min", "time/steps"} & set(extra)
        app.grid.page(-1)
        await pilot.pause()
        assert "\x1b" not in "".join("".join(lines_of(app.grid, chart)) for chart in app.grid.charts)


async def test_without_data_the_chart_says_so() -> None:
    app = Screen()
    async with app.run_test(size=(80, 24)) as pilot:
        app.update(Tape(), Playhead())
        await pilot.pause()
        assert any("no data yet" in line for line in lines_of(app.grid, app.grid.charts[0]))


async def test_a_value_that_is_not_a_number_is_marked() -> None:
    app, tape = Screen(("train/policy_loss",)), tape_of(184, nan_at=(60, 184))
    async with app.run_test(size=(60, 16)) as pilot:
        app.update(tape, live(tape))
        await pilot.pause()
        lines = lines_of(app.grid, app.grid.charts[0])
        assert lines[0].endswith("nan")
        assert "".join(lines).count("×") == 2


@pytest.mark.parametrize("size", [(20, 6), (10, 3), (1, 1), (25, 4), (28, 5), (300, 90)])
@pytest.mark.parametrize("ascii", [False, True])
async def test_any_size_is_drawn(size: tuple[int, int], ascii: bool) -> None:
    app, tape = Screen(ascii=ascii), tape_of(40, nan_at=(7,), steered_at=20)
    async with app.run_test(size=size) as pilot:
        head = live(tape)
        app.update(tape, head)
        head.seek(10, tape)
        app.update(tape, head)
        await pilot.pause()
        for chart in app.grid.charts:
            assert all(len(line) == chart.region.width for line in lines_of(app.grid, chart))
            assert not ascii or "".join(lines_of(app.grid, chart)).isascii()
        assert not ascii or "".join(text_of(app.bar)).isascii()


async def test_resizing_redraws() -> None:
    app, tape = Screen(), tape_of()
    async with app.run_test(size=(80, 24)) as pilot:
        app.update(tape, live(tape))
        await pilot.resize_terminal(150, 44)
        await pilot.pause()
        assert len(app.grid.charts) == 6
        assert all("⠤" in "".join(lines_of(app.grid, chart)) for chart in app.grid.charts)


async def test_the_tape_bar_tells_where_the_playhead_is() -> None:
    app, tape = Screen(), tape_of()
    async with app.run_test(size=(100, 20)) as pilot:
        head = live(tape)
        app.update(tape, head)
        line = text_of(app.bar)[0]
        length = line.index("◆") + 1
        assert line[length:].split() == ["live", "184"]
        assert line.count("┿") == 3
        head.toggle(tape)
        head.home(tape)
        app.update(tape, head)
        assert text_of(app.bar)[0].startswith("◆━")
        head.toggle(tape)
        head.faster()
        app.update(tape, head)
        assert text_of(app.bar)[0].split()[-3:] == ["playing", "×2", "1"]
        await pilot.click(TapeBar, offset=(length - 1, 0))
        await pilot.click(TapeBar, offset=(0, 0))
        await pilot.click(TapeBar, offset=(length + 5, 0))
        assert app.sought == [184, 1]


async def test_a_click_selects_a_chart() -> None:
    app, tape = Screen(), tape_of()
    async with app.run_test(size=(150, 44)) as pilot:
        app.update(tape, live(tape))
        await pilot.pause()
        left, top, width, height = app.grid.charts[3].region
        await pilot.click(app.grid, offset=(left + width // 2, top + height // 2))
        assert app.grid.selected == CHARTS[3]


async def test_labels_are_whole_and_charts_above_each_other_share_their_room() -> None:
    app, tape = Screen(), tape_of(end="finished")
    async with app.run_test(size=(150, 44)) as pilot:
        app.update(tape, live(tape))
        await pilot.pause()
        await pilot.pause()
        charts = app.grid.charts
        for chart in charts:
            labels = [
                line[: chart.label_room].strip() for line in lines_of(app.grid, chart) if "│" in line[:12]
            ]
            labels = [label for label in labels if label]
            assert len(set(labels)) == len(labels) >= 2
        for column in (charts[0::2], charts[1::2]):
            assert len({chart.label_room for chart in column}) == 1


def test_a_label_stands_over_its_own_marker_and_over_no_other() -> None:
    first, second = Label(30, ("ε .2→.1",), True), Label(60, ("ε .1→.2, epochs 6→3", "ε .1→.2 …"), True)
    assert labels_placed([first, second], 10, 90) == [(51, second.texts[0]), (27, first.texts[0])]
    # Too near to the other one and to the end for the whole: what there is room for says so.
    near = first._replace(column=50)
    assert labels_placed([near, second], 10, 66) == [(56, second.texts[1]), (47, near.texts[0])]
    # Where the markers are neighbours each label goes to its own side.
    beside = second._replace(column=31)
    assert labels_placed([first, beside], 10, 90) == [(31, beside.texts[0]), (22, first.texts[0])]


def test_of_many_changes_in_one_column_the_newest_is_labelled() -> None:
    many = [Label(30, (f"ε .{number}→.1",), True) for number in range(1, 9)]
    assert labels_placed([*many, Label(30, ("pace 16→off",), False)], 10, 90) == [(27, "ε .8→.1")]


def test_what_training_does_not_hang_on_is_labelled_last() -> None:
    pace, clip = Label(40, ("pace 16→off",), False), Label(30, ("ε .2→.1",), True)
    assert labels_placed([clip, pace], 10, 90) == [(27, "ε .2→.1"), (40, "pace 16→off")]
    assert labels_placed([clip, pace], 28, 36) == []
    assert labels_placed([clip._replace(column=12), pace], 20, 90) == []
