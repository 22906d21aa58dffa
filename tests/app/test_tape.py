"""The tape: records become series, events and values in force."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from fake_runs import HYPERPARAMETERS, run_records

from metarl_tui.tape import Tape
from trainers.hyperparameters import TRAINERS

PPO = TRAINERS["ppo"]


def row(iteration: int, **values: Any) -> dict[str, Any]:
    return {"kind": "metrics", "iteration": iteration, "time": 100.0 + iteration, "values": values}


def applied(iteration: int, **changes: Any) -> dict[str, Any]:
    return {"kind": "control", "iteration": iteration, "request": f"r{iteration}", "action": "set",
            "result": "applied", "changes": changes}  # fmt: skip


def status(iteration: int, state: str, **more: Any) -> dict[str, Any]:
    return {"kind": "status", "iteration": iteration, "state": state, **more}


@pytest.fixture
def tape() -> Tape:
    tape = Tape(HYPERPARAMETERS, PPO)
    tape.extend(run_records(184, nan_at=(60,)))
    return tape


def test_a_series_holds_every_row_that_has_the_key(tape: Tape) -> None:
    iterations, values = tape.series("rollout/ep_rew_mean")
    assert iterations.tolist() == list(range(1, 185))
    assert values[0] < 60 < 480 < values[-1]
    assert tape.series("eval/return_mean")[0].tolist() == list(range(10, 184, 10))
    assert (tape.first, tape.last) == (1, 184)


def test_what_is_not_a_number_is_kept(tape: Tape) -> None:
    assert math.isnan(tape.value_at("train/policy_loss", 60) or 0.0)
    assert tape.value_at("train/value_loss", 60) == math.inf
    assert math.isfinite(tape.value_at("train/policy_loss", 61) or math.nan)


def test_a_value_is_the_newest_at_or_before(tape: Tape) -> None:
    assert tape.value_at("eval/return_mean", 9) is None
    assert tape.value_at("eval/return_mean", 19) == tape.value_at("eval/return_mean", 10)
    assert tape.value_at("never/measured", 100) is None


def test_records_in_slices_give_the_same_tape(tape: Tape) -> None:
    records = run_records(184, nan_at=(60,))
    sliced = Tape(HYPERPARAMETERS, PPO)
    for start in range(0, len(records), 7):
        sliced.extend(records[start : start + 7])
    assert set(sliced.keys) == set(tape.keys)
    for key in tape.keys:
        np.testing.assert_array_equal(sliced.series(key)[0], tape.series(key)[0])
        np.testing.assert_array_equal(sliced.series(key)[1], tape.series(key)[1])
    assert [event.text for event in sliced.events] == [event.text for event in tape.events]


def test_events_are_told_in_words(tape: Tape) -> None:
    told = {(event.iteration, event.text) for event in tape.events}
    assert (102, "ε 0.2 → 0.1 applied") in told
    assert (50, "checkpoint") in told
    assert (150, "checkpoint, best") in told
    assert any(text.startswith("475 reached after") for _, text in told)
    rejected = next(event.text for event in tape.events if "rejected" in event.text)
    assert "must divide 4096" in rejected


def test_a_marker_has_a_short_label(tape: Tape) -> None:
    assert [(marker.iteration, marker.labels[0]) for marker in tape.markers] == [(102, "ε .2→.1")]


def test_requests_are_answered_by_id(tape: Tape) -> None:
    assert (tape.outcome("aaaa1111") or {})["result"] == "applied"
    assert (tape.outcome("bbbb2222") or {})["result"] == "rejected"
    assert tape.outcome("cccc3333") is None


def test_values_in_force_follow_changes_and_schedules(tape: Tape) -> None:
    assert tape.hyperparameters_at(101)["clip_epsilon"] == 0.2
    assert tape.hyperparameters_at(102)["clip_epsilon"] == 0.1
    assert tape.hyperparameters_at()["clip_epsilon"] == 0.1
    rates = [tape.hyperparameters_at(iteration)["learning_rate"] for iteration in (1, 92, 184)]
    assert rates == sorted(rates, reverse=True)
    assert rates[1] == pytest.approx(tape.value_at("train/learning_rate", 92))
    assert tape.hyperparameters_at()["epochs"] == 4


def test_a_change_counts_before_its_iteration_has_a_row() -> None:
    tape = Tape({"learning_rate": 1e-3, "epochs": 4}, PPO)
    tape.extend(
        [row(1, **{"train/learning_rate": 1e-3}), applied(2, learning_rate=[1e-3, 5e-4], epochs=[4, 6])]
    )
    assert tape.hyperparameters_at() == {"learning_rate": 5e-4, "epochs": 6}
    assert tape.hyperparameters_at(1) == {"learning_rate": 1e-3, "epochs": 4}


def test_a_value_set_by_hand_leaves_its_schedule() -> None:
    tape = Tape(HYPERPARAMETERS, PPO)
    tape.extend([row(1), row(2), applied(2, learning_rate=[1e-3, 5e-4]), row(3)])
    assert tape.scheduled_at(1) == {"learning_rate"}
    assert tape.scheduled_at(2) == set()
    rebased = Tape(HYPERPARAMETERS, PPO)
    rebased.extend([row(1), {**applied(2, learning_rate=[1e-3, 5e-4]), "rebase": True}])
    assert rebased.scheduled_at() == {"learning_rate"}
    assert Tape({**HYPERPARAMETERS, "anneal": "none"}, PPO).scheduled_at() == set()


def test_a_resume_drops_what_stood_above_its_checkpoint() -> None:
    tape = Tape(HYPERPARAMETERS, PPO)
    tape.extend([row(iteration, loss=float(iteration)) for iteration in range(1, 11)])
    tape.extend([
        {"kind": "checkpoint", "iteration": 9, "reason": "asked"},
        {"kind": "note", "iteration": 8, "text": "475 reached"},
        applied(7, clip_epsilon=[0.2, 0.1]),
        {"kind": "resumed", "iteration": 5, "from": 5},
    ])  # fmt: skip
    assert tape.last == 5
    assert tape.series("loss")[1].tolist() == [1, 2, 3, 4, 5]
    assert tape.hyperparameters_at()["clip_epsilon"] == 0.2
    assert [event.text for event in tape.events] == ["ε 0.2 → 0.1 applied", "resumed from iteration 5"]
    tape.extend(
        [row(6, loss=60.0), {**applied(7, clip_epsilon=[0.2, 0.1]), "request": None}, row(7, loss=70.0)]
    )
    assert tape.series("loss")[1].tolist() == [1, 2, 3, 4, 5, 60, 70]
    assert len(tape.markers) == 1
    assert tape.hyperparameters_at()["clip_epsilon"] == 0.1


def test_rows_after_a_resume_in_the_same_slice_are_kept() -> None:
    tape = Tape()
    tape.extend([row(1, a=1.0), row(2, a=2.0), {"kind": "resumed", "iteration": 1, "from": 1}, row(2, a=3.0)])
    assert tape.series("a")[1].tolist() == [1, 3]


def test_the_state_at_the_playhead() -> None:
    tape = Tape()
    assert tape.state_at(0) == "starting"
    tape.extend([status(0, "started", device="cpu"), status(0, "running"), row(1), row(2)])
    assert tape.state_at(2) == "running"
    tape.extend([status(2, "paused", why="asked"), status(2, "running"), row(3), status(3, "finished")])
    assert (tape.started or {})["device"] == "cpu"
    assert tape.ended
    assert [tape.state_at(iteration) for iteration in (1, 2, 3)] == ["running", "running", "finished"]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "metrics"},
        {"kind": "metrics", "iteration": "x", "values": {}},
        {"kind": "metrics", "iteration": 2**40, "values": {"a": 1}},
        {"kind": "metrics", "iteration": 2, "values": None},
        {"kind": "metrics", "iteration": 2, "values": {"a": {"b": 1}, "c": "hello", "d": [1, 2], "e": None}},
        {"kind": "control", "iteration": 2, "result": "applied", "changes": {"a": 1}},
        {"kind": "control", "iteration": 2, "result": "applied", "changes": [1]},
        {"kind": "resumed", "iteration": 2, "from": None},
        {"kind": "picture", "iteration": 2},
        {"kind": "status", "iteration": 1, "state": None},
    ],
)
def test_nonsense_is_passed_over(record: dict[str, Any]) -> None:
    tape = Tape()
    tape.extend([row(1, a=1.0), record, row(3, a=3.0)])
    assert tape.last == 3
    assert tape.value_at("a", 3) == 3.0


def test_escape_sequences_never_reach_an_event() -> None:
    tape = Tape()
    tape.extend([
        {"kind": "note", "iteration": 1, "text": "a\x1b[31mb\nc"},
        status(1, "failed", why="\x1b]0;x\x07no"),
        applied(1, **{"\x1b[2Jname": ["\x1b[1mx", "y"]}),
    ])  # fmt: skip
    assert all("\x1b" not in event.text and "\n" not in event.text for event in tape.events)
    assert "\x1b" not in tape.markers[0].labels[0]


def test_the_rate_is_the_median_duration(tape: Tape) -> None:
    assert tape.seconds_per_iteration == pytest.approx(0.082, abs=0.002)
    untimed = Tape()
    untimed.extend([{**row(iteration), "time": 2.0 * iteration} for iteration in range(1, 9)])
    assert untimed.seconds_per_iteration == 2.0
    assert Tape().seconds_per_iteration == 0.0


def timed(iteration: int, moment: Any, **values: Any) -> dict[str, Any]:
    return {**row(iteration, **values), "time": moment}


def test_the_newest_iterations_take_what_passes_between_them() -> None:
    tape = Tape()
    assert tape.seconds_per_iteration_at(0) == 0.0
    tape.extend([timed(one, 0.5 * one, **{"time/iteration_seconds": 0.1}) for one in range(1, 4)])
    assert tape.seconds_per_iteration_at(3) == 0.0  # so few tell nothing
    tape.extend([timed(one, 0.5 * one, **{"time/iteration_seconds": 0.1}) for one in range(4, 200)])
    assert tape.seconds_per_iteration_at(199) == tape.seconds_per_iteration_at(300) == 0.5
    tape.extend([timed(one, 3.0 * one, **{"time/iteration_seconds": 0.2}) for one in range(200, 300)])
    assert tape.seconds_per_iteration_at(299) == 3.0
    assert tape.seconds_per_iteration_at(298) == 0.2
    assert tape.seconds_per_iteration_at(100) == 0.1


@pytest.mark.parametrize("seconds", [0.0, -1.0, "nan", "inf", None, "soon"])
def test_a_duration_that_makes_no_sense_is_not_known(seconds: Any) -> None:
    tape = Tape()
    tape.extend([row(1, **{"time/iteration_seconds": seconds}), row(2)])
    assert tape.seconds_per_iteration_at(1) == 0.0


def test_rows_of_some_iterations_tell_the_time_of_one() -> None:
    tape = Tape()
    tape.extend([timed(10 * one, 20.0 * one) for one in range(1, 9)])
    assert tape.seconds_per_iteration_at(80) == tape.seconds_per_iteration == 2.0


@pytest.mark.parametrize("nonsense", [None, "noon", math.nan, -math.inf, True, 10**400])
def test_a_time_that_makes_no_sense_is_passed_over(nonsense: Any) -> None:
    tape = Tape()
    tape.extend([timed(one, nonsense if one % 5 == 0 else 2.0 * one) for one in range(1, 30)])
    assert tape.seconds_per_iteration_at(29) == 2.0
    backwards = Tape()
    backwards.extend([timed(one, 1000.0 - one) for one in range(1, 30)])
    assert backwards.seconds_per_iteration_at(29) == 0.0


def test_after_a_resume_the_times_of_what_did_not_happen_do_not_count() -> None:
    tape = Tape()
    tape.extend([timed(one, 1.0 * one if one <= 10 else 100.0 * one) for one in range(1, 31)])
    assert tape.seconds_per_iteration_at(30) == 100.0
    tape.extend([{"kind": "resumed", "iteration": 10, "from": 10}])
    assert tape.seconds_per_iteration_at(10) == 1.0
    tape.extend([timed(11, 9000.0), timed(12, 9001.0)])
    assert tape.seconds_per_iteration_at(12) == 1.0
    tape.extend([{"kind": "resumed", "iteration": 0, "from": 0}])
    assert tape.seconds_per_iteration_at(0) == 0.0


def test_two_hundred_records_are_read_in_little_time() -> None:
    records = run_records(2000)[100:300]
    durations = []
    for _ in range(20):
        tape = Tape(HYPERPARAMETERS, PPO)
        start = time.perf_counter()
        tape.extend(records)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.002


def test_what_a_trainer_moves_by_itself_is_read_from_its_own_metric() -> None:
    tape = Tape({"outer_lr": 1e-3, "inner_lr": 0.1, "anneal": "linear"}, TRAINERS["maml"])
    tape.extend([row(1, **{"meta/outer_lr": 1e-3, "meta/inner_lr": 0.1})])
    tape.extend([row(2, **{"meta/outer_lr": 5e-4, "meta/inner_lr": 0.117})])
    assert tape.hyperparameters_at() == {"outer_lr": 5e-4, "inner_lr": 0.117, "anneal": "linear"}
    assert tape.scheduled_at() == {"outer_lr"}
    tape.extend([applied(3, outer_lr=[5e-4, 2e-3])])
    assert tape.hyperparameters_at()["outer_lr"] == 2e-3
    assert tape.scheduled_at() == set()
