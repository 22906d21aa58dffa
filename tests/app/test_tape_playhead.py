"""The playhead: live at the end, held where it is put, moving when it plays."""

from __future__ import annotations

from typing import Any

import pytest

from metarl_tui.playhead import Playhead
from metarl_tui.tape import Tape


def tape_of(last: int, seconds: float = 0.1, ended: bool = False) -> Tape:
    tape = Tape()
    extend(tape, 1, last, seconds)
    if ended:
        tape.extend([{"kind": "status", "iteration": last, "state": "finished"}])
    return tape


def extend(tape: Tape, first: int, last: int, seconds: float = 0.1) -> None:
    records: list[dict[str, Any]] = [
        {"kind": "metrics", "iteration": iteration, "values": {"time/iteration_seconds": seconds}}
        for iteration in range(first, last + 1)
    ]
    tape.extend(records)


def at(tape: Tape, mode: Any, position: float, speed: float = 1.0) -> Playhead:
    head = Playhead(mode, position, speed)
    head.advance(0, tape)
    return head


def test_live_follows_the_tape() -> None:
    tape, head = tape_of(10), Playhead()
    assert head.advance(0.2, tape)
    assert head.iteration == 10
    assert not head.advance(0.2, tape)
    extend(tape, 11, 14)
    assert head.advance(0.2, tape)
    assert (head.mode, head.iteration) == ("live", 14)


def test_held_stays_while_the_tape_grows() -> None:
    tape = tape_of(10)
    head = at(tape, "live", 10)
    head.step(-1, tape)
    extend(tape, 11, 20)
    head.advance(1, tape)
    assert (head.mode, head.iteration) == ("held", 9)


@pytest.mark.parametrize(
    ("seconds", "speed", "expected"), [(0.1, 1, 20), (0.1, 4, 50), (5.0, 1, 11), (5.0, 8, 18)]
)
def test_playing_moves_at_the_recorded_rate_but_one_a_second_at_least(
    seconds: float, speed: float, expected: int
) -> None:
    tape = tape_of(100, seconds)
    head = at(tape, "playing", 10, speed)
    head.advance(1.0, tape)
    assert head.iteration == expected


def test_playing_to_the_end_of_a_live_run_becomes_live() -> None:
    tape = tape_of(100)
    head = at(tape, "playing", 90)
    head.advance(2, tape)
    assert (head.mode, head.iteration) == ("live", 100)


def test_playing_to_the_end_of_a_run_that_is_over_holds() -> None:
    tape = tape_of(100, ended=True)
    head = at(tape, "playing", 90)
    head.advance(2, tape)
    assert (head.mode, head.iteration) == ("held", 100)
    head.toggle(tape)
    assert (head.mode, head.iteration) == ("playing", 1)


def test_space_holds_and_plays() -> None:
    tape = tape_of(100)
    head = at(tape, "live", 100)
    head.toggle(tape)
    assert head.mode == "held"
    head.toggle(tape)
    assert head.mode == "playing"
    head.advance(0.1, tape)
    assert head.mode == "live"


def test_steps_jumps_and_ends() -> None:
    tape = tape_of(101)
    head = at(tape, "live", 101)
    head.jump(-1, tape)
    assert (head.mode, head.iteration) == ("held", 96)
    head.step(-1, tape)
    head.step(-500, tape)
    assert head.iteration == 1
    head.jump(1, tape)
    assert head.iteration == 6
    head.home(tape)
    assert head.iteration == 1
    head.step(1, tape)
    assert (head.mode, head.iteration) == ("held", 2)
    head.end(tape)
    assert (head.mode, head.iteration) == ("live", 101)


def test_a_step_past_the_end_is_live() -> None:
    tape = tape_of(10)
    head = at(tape, "held", 9)
    head.step(1, tape)
    assert head.live


def test_seeking_does_not_stop_playing() -> None:
    tape = tape_of(100)
    head = at(tape, "playing", 50)
    head.seek(20, tape)
    assert (head.mode, head.iteration) == ("playing", 20)


def test_speed_doubles_within_limits() -> None:
    head = Playhead()
    for _ in range(20):
        head.faster()
    assert head.speed == 64
    for _ in range(20):
        head.slower()
    assert head.speed == 1 / 8


def test_a_resume_pulls_the_playhead_back() -> None:
    tape = tape_of(100)
    head = at(tape, "held", 80)
    tape.extend([{"kind": "resumed", "iteration": 50, "from": 50}])
    head.advance(0.1, tape)
    assert head.iteration == 50


def test_an_empty_tape_moves_nothing() -> None:
    tape, head = Tape(), Playhead()
    for move in (head.home, head.end, head.toggle, head.toggle):
        move(tape)
        head.advance(1.0, tape)
    head.jump(1, tape)
    head.step(-1, tape)
    assert head.iteration == 0
