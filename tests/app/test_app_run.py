"""The run screen: live, attached, rewound, replayed, ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runs import write_run
from live_run import LiveRun, app_on, lines, text, until
from textual.geometry import Region, Size

from metarl_tui.app.screens.run import RunScreen
from metarl_tui.runs.folder import RunError, RunFolder


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveRun]:
    run = LiveRun(tmp_path)
    yield run
    run.close()


def ended(runs_dir: Path, **what) -> RunFolder:
    return RunFolder(write_run(runs_dir, **{"iterations": 120, "end": "finished", **what}))


async def test_follows_a_live_run(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "iteration 60" in text(pilot))
        assert "● running" in lines(pilot)[0]
        assert "live  60" in text(pilot)
        titles = ("return", "episode length", "clip fraction", "approx KL", "steer", "journal")
        await until(pilot, lambda: all(title in text(pilot) for title in titles))
        assert "p pause" in lines(pilot)[-1]
        assert "leave, it goes on" in lines(pilot)[-1]
        live.train(10)
        await until(pilot, lambda: "live  70" in text(pilot))


async def test_pause_label_follows_the_state(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "p pause" in text(pilot))
        await pilot.press("p")
        await until(pilot, lambda: "pausing after this iteration" in text(pilot))
        assert [one.action for one in live.queued()] == ["pause"]
        assert "● running" in lines(pilot)[0]
        live.answer()
        live.say("paused", why="asked by ada@box")
        await until(pilot, lambda: "paused after iteration 60" in text(pilot))
        await until(pilot, lambda: "p resume" in lines(pilot)[-1])
        await pilot.press("p")
        await until(pilot, lambda: live.queued())
        assert [one.action for one in live.queued()] == ["resume"]


async def test_stop_asks_first(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "Q stop" in text(pilot))
        await pilot.press("Q")
        await until(pilot, lambda: "End the training of k3f9? It is saved first" in text(pilot))
        await pilot.press("n")
        await until(pilot, lambda: "Stop training" not in text(pilot))
        assert not live.queued()
        await pilot.press("Q", "y")
        await until(pilot, lambda: [one.action for one in live.queued()] == ["stop"])


async def test_the_screen_stays_when_the_run_ends(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "● running" in text(pilot))
        live.say("failed", why="the environment raised ValueError: no more")
        await until(pilot, lambda: "failed: the environment raised" in lines(pilot)[0])
        footer = lines(pilot)[-1]
        assert "r resume" in footer
        for gone in ("p pause", "e steer", "s save", "Q stop"):
            assert gone not in footer
        await pilot.press("q")
    assert pilot.app.lines[0].startswith("run k3f9 failed at iteration 60: the environment raised")


async def test_restart_starts_a_worker(tmp_path: Path) -> None:
    folder = ended(tmp_path, end="stopped")
    started = []

    class Refusing:
        def check(self) -> str:
            raise RunError("no checkpoint is whole")

    app = app_on(tmp_path, folder, start=lambda run: started.append(run) or Refusing())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "r resume" in text(pilot))
        await pilot.press("r")
        assert not started
        await pilot.press("y")
        await until(pilot, lambda: "no checkpoint is whole" in text(pilot))
        assert started == [folder]
        assert app.return_code is None


async def test_leaving_never_stops_training(tmp_path: Path, live: LiveRun) -> None:
    app = app_on(tmp_path, live.folder)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "● running" in text(pilot))
        await pilot.press("ctrl+c")
    assert app.exit_code == 0
    path = live.folder.path
    assert app.lines == [f"run k3f9 goes on: metarl-tui open {path} · stop it: metarl-tui stop {path}"]
    assert not live.queued()


async def test_shell_line_names_the_run_by_its_short_id_where_that_is_found(
    tmp_path: Path, live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METARL_RUNS_DIR", str(tmp_path))
    app = app_on(tmp_path, live.folder)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "● running" in text(pilot))
        await pilot.press("q")
    assert app.lines == ["run k3f9 goes on: metarl-tui open k3f9 · stop it: metarl-tui stop k3f9"]


async def test_a_run_that_can_not_start_ends_the_screen(tmp_path: Path, live: LiveRun) -> None:
    folder = live.folder  # its process is alive, and still the start can fail

    class Launch:
        checks = 0

        def check(self) -> str:
            self.checks += 1
            if self.checks < 3:
                return "starting"
            raise RunError("env = CartPole-v9: no such environment; did you mean CartPole-v1?")

        def end(self) -> None:
            pass

    app = app_on(tmp_path, folder, is_new=True, start=lambda run: Launch())
    async with app.run_test(size=(120, 40)) as pilot:
        assert "starting" in lines(pilot)[0]
        await until(pilot, lambda: app.return_code is not None)
    assert (app.exit_code, app.lines) == (
        2,
        ["env = CartPole-v9: no such environment; did you mean CartPole-v1?"],
    )


async def test_replay_starts_at_the_beginning_and_plays(tmp_path: Path) -> None:
    async with app_on(tmp_path, ended(tmp_path), replay=True).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "playing" in text(pilot))
        assert "running" in lines(pilot)[0]
        assert "p pause" not in lines(pilot)[-1]
        await pilot.press("space")
        await until(pilot, lambda: "held" in text(pilot))
        await pilot.press("home", "right", "right", "right")
        await until(pilot, lambda: "iteration 4" in lines(pilot)[0])
        await pilot.press("left")
        await until(pilot, lambda: "iteration 3" in lines(pilot)[0])
        assert "ε 0.2 → 0.1 applied" not in text(pilot)
        await pilot.press("shift+right")
        await until(pilot, lambda: "iteration 9" in lines(pilot)[0])
        await pilot.press("end")
        await until(pilot, lambda: "finished" in lines(pilot)[0])
        assert "ε 0.2 → 0.1 applied" in text(pilot)
        assert "0.1" in next(line for line in lines(pilot) if "clip_epsilon" in line)


async def test_a_long_ended_run_opens_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state is known before the whole journal has been read."""
    monkeypatch.setattr("metarl_tui.app.follow.SLICE_BYTES", 4096)
    async with app_on(tmp_path, ended(tmp_path)).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "end  120" in text(pilot))
        assert "finished" in lines(pilot)[0]


async def test_damage_is_said(tmp_path: Path) -> None:
    folder = ended(tmp_path)
    content = folder.journal.read_bytes().splitlines(keepends=True)
    content[40] = b"{damaged\n"
    folder.journal.write_bytes(b"".join(content))
    async with app_on(tmp_path, folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "journal records could not be read" in text(pilot))
        assert "end  120" in text(pilot)


async def test_a_journal_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    folder = ended(tmp_path)
    async with app_on(tmp_path, folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "end  120" in text(pilot))
        other = write_run(tmp_path / "other", iterations=30, end="stopped")
        (other / "journal.jsonl").replace(folder.journal)
        await until(pilot, lambda: "iteration 30" in lines(pilot)[0] and "stopped" in lines(pilot)[0])


async def test_playing_faster_reaches_the_end(tmp_path: Path) -> None:
    async with app_on(tmp_path, ended(tmp_path), replay=True, speed=8).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "playing ×8" in text(pilot))
        await pilot.press("greater_than_sign", "greater_than_sign")
        await until(pilot, lambda: "finished" in lines(pilot)[0])
        assert "end  120" in text(pilot)


async def test_rewinding_a_live_run_and_back(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "live  60" in text(pilot))
        await pilot.press("left", "left")
        await until(pilot, lambda: "held  58" in text(pilot))
        live.train(5)
        await until(pilot, lambda: pilot.app.screen.follower.tape.last == 65)
        assert "held  58" in text(pilot)
        await pilot.press("end")
        await until(pilot, lambda: "live  65" in text(pilot))


async def test_space_holds_a_live_run(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "live  60" in text(pilot))
        await pilot.press("space")
        live.train(5)
        await until(pilot, lambda: pilot.app.screen.follower.tape.last == 65)
        assert "held  60" in text(pilot)
        assert "● running" in lines(pilot)[0]


async def test_a_run_started_again_is_followed_again(tmp_path: Path, live: LiveRun) -> None:
    live.say("stopped", why="asked by ada@box")
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "end  60" in text(pilot))
        live.say("started")
        live.train(5)
        live.say("running")
        await until(pilot, lambda: "live  65" in text(pilot))


async def test_zoom_pages_and_log(tmp_path: Path) -> None:
    folder = ended(tmp_path)
    folder.log.write_text("one\n\x1b[31mtwo\x1b[0m\n")
    async with app_on(tmp_path, folder).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "finished" in text(pilot))
        assert "clip fraction" not in text(pilot)
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "clip fraction" in text(pilot))
        await pilot.press("left_square_bracket", "z")
        await until(pilot, lambda: "z all charts" in text(pilot))
        assert "episode length" not in text(pilot)
        await pilot.press("z", "l")
        await until(pilot, lambda: "two" in text(pilot))
        with folder.log.open("a") as log:
            log.write("three\n")
        await until(pilot, lambda: "three" in text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "return" in text(pilot))


async def test_help_lists_what_the_table_lists(tmp_path: Path) -> None:
    async with app_on(tmp_path, ended(tmp_path)).run_test(size=(100, 50)) as pilot:
        await until(pilot, lambda: "finished" in text(pilot))
        await pilot.press("question_mark")
        await until(pilot, lambda: "pause training after this iteration" in text(pilot))
        assert "a twentieth of the tape" in text(pilot)
        await pilot.press("q")
        await until(pilot, lambda: "finished" in text(pilot))


async def test_palette_offers_what_works_now(tmp_path: Path) -> None:
    async with app_on(tmp_path, ended(tmp_path)).run_test(size=(100, 50)) as pilot:
        await until(pilot, lambda: "finished" in text(pilot))
        offered = [command.title for command in pilot.app.get_system_commands(pilot.app.screen)]
        assert "play tape" in offered
        assert "pause" not in offered
        assert not {"Theme", "Screenshot", "Keys"} & set(offered)


@pytest.mark.parametrize(
    "size", [(20, 6), (30, 8), (59, 15), (80, 24), (99, 30), (100, 30), (200, 60), (10, 3)]
)
async def test_every_size_shows_something(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = ended(tmp_path, why="x" * 300, end="failed", nan_at=(40, 120), title="a name of some length")
    async with app_on(tmp_path, folder).run_test(size=size) as pilot:
        await until(pilot, lambda: "failed" in text(pilot))
        await pilot.press("e", "home", "space", "z", "question_mark")
        await pilot.pause()
        assert len(lines(pilot)) == size[1]


async def test_layout_of_a_small_terminal(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "live  60" in text(pilot))
        rows = lines(pilot)
        assert "running" in rows[0]
        assert rows[1].split()[0] == "return"
        assert "live  60" in rows[21]
        assert rows[23].split()[0] == "p"


@pytest.mark.parametrize(("width", "beside"), [(99, False), (100, True), (160, True), (240, True)])
async def test_the_side_panel_comes_with_room(
    tmp_path: Path, live: LiveRun, width: int, beside: bool
) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(width, 40)) as pilot:
        await until(pilot, lambda: "live  60" in text(pilot))
        assert ("steer ──" in text(pilot)) == beside
        assert ("journal ──" in text(pilot)) == beside


async def test_a_paint_between_a_new_size_and_its_message(tmp_path: Path) -> None:
    """Textual gives widgets their places first and tells them later."""
    async with app_on(tmp_path, ended(tmp_path)).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "clip fraction" in text(pilot))
        screen = pilot.app.screen
        assert isinstance(screen, RunScreen)
        grid = screen.grid
        assert grid is not None
        screen._compositor.reflow(screen, Size(70, 20))
        grid.repaint()
        assert grid._canvas.width < 112
        assert grid._canvas.height < 20
        await pilot.resize_terminal(70, 20)
        await until(pilot, lambda: len(lines(pilot)) == 20 and "return" in text(pilot))


async def test_the_chosen_chart_is_marked_while_the_charts_have_the_keys(tmp_path: Path) -> None:
    async with app_on(tmp_path, ended(tmp_path)).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "clip fraction" in text(pilot))
        screen = pilot.app.screen
        assert isinstance(screen, RunScreen)
        grid = screen.grid
        assert grid is not None
        assert not any(chart.selected for chart in grid.charts)
        grid.focus()
        await pilot.pause()
        assert [chart.key for chart in grid.charts if chart.selected] == [grid.selected]
        screen.set_focus(None)
        await pilot.pause()
        assert not any(chart.selected for chart in grid.charts)


async def test_hostile_strings_are_only_text(tmp_path: Path) -> None:
    hostile = "[@click=app.bell]x[/] \x1b]52;c;AAAA\x07\x1b[2J\x9b31m‮ [red]y"
    folder = ended(
        tmp_path,
        title=hostile,
        end="failed",
        why=hostile,
        config={"subject": hostile, "setup": {"env": hostile}},
    )
    async with app_on(tmp_path, folder).run_test(size=(200, 50)) as pilot:
        await until(pilot, lambda: "failed" in text(pilot))
        shown = text(pilot)
        assert "[@click=app.bell]x[/]" in shown
        assert not [character for character in shown if not character.isprintable() and character != "\n"]


async def test_ascii_only(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder, ascii=True).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "live" in text(pilot))
        await pilot.press("e")
        await pilot.pause()
        widgets = [line for line in lines(pilot) if "learning_rate" in line or "running" in line]
        assert all(line.isascii() for line in (*widgets, lines(pilot)[-1])), widgets
        assert "arrows change" in lines(pilot)[-1]


async def test_a_key_is_shown_without_waiting_for_the_next_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app_on(tmp_path, ended(tmp_path)).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "f fork" in text(pilot))
        monkeypatch.setattr(pilot.app.screen._update_timer, "resume", lambda: None)
        shown: list[object] = []
        monkeypatch.setattr(pilot.app, "_display", lambda _, update: shown.append(update))
        await pilot.press("z")
        assert len(shown) == 1


async def test_choosing_a_chart_changes_two_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with app_on(tmp_path, ended(tmp_path)).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "f fork" in text(pilot))
        await pilot.press("down", "down")
        await pilot.pause()
        grid = pilot.app.screen.grid
        grid.settle()
        regions: list[Region] = []
        monkeypatch.setattr(
            type(grid), "refresh", lambda self, *where, **_: regions.extend(where or [self.size.region])
        )
        await pilot.press("down")
        titles = {(chart.region.x, chart.region.y) for chart in grid.charts[1:3]}
        assert {(region.x, region.y) for region in regions} == titles
