"""What people ask of a run: carried out at a boundary, journaled, and made again after a resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from small_runs import (
    MakeRun,
    assert_same_run,
    at_iteration,
    damage_checkpoints_after,
    metrics,
    records,
    states,
    train_here,
)

from metarl_tui.runs import checkpoints, requests
from metarl_tui.runs.folder import RunFolder
from metarl_tui.worker.loop import AskedAtStart
from trainers.declarations import declarations
from trainers.hyperparameters import PPOHyperparameters
from trainers.settings import check_changes

OTHER_VALUES: dict[str, Any] = {
    "total_steps": 512,
    "minibatch_size": 16,
    "epochs": 3,
    "learning_rate": 5e-3,
    "clip_epsilon": 0.05,
    "value_clip_epsilon": 1e-4,
    "target_kl": 1e-7,
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "entropy_coef": 0.05,
    "value_coef": 1.0,
    "max_grad_norm": 0.1,
    "normalize_advantages": False,
    "eval_every": 2,
    "eval_episodes": 3,
    "until": 9.0,
}
LIVE = [name for name, declared in declarations(PPOHyperparameters).items() if declared.changes == "live"]


def test_every_live_hyperparameter_is_tested() -> None:
    assert set(LIVE) == OTHER_VALUES.keys()


@pytest.mark.parametrize("name", LIVE)
def test_change_by_hand_equals_the_same_change_planned(make_run: MakeRun, name: str) -> None:
    value = OTHER_VALUES[name]
    planned = make_run(changes=[{"iteration": 4, name: value}])
    steered = make_run()
    untouched = make_run()
    assert train_here(planned) == 0
    ask = at_iteration(steered, 3, lambda: requests.send(steered, "set", {name: value}))
    assert train_here(steered, observer=ask) == 0
    train_here(untouched)
    by_hand = records(steered, "control")[0]
    assert (by_hand["result"], by_hand["iteration"]) == ("applied", 4)
    assert by_hand["changes"] == records(planned, "control")[0]["changes"]
    assert_same_run(planned, steered)
    if name != "until":  # which needs a hundred episodes
        assert metrics(planned) != metrics(untouched)


def test_a_request_is_carried_out_whole_or_not_at_all(make_run: MakeRun) -> None:
    run = make_run()
    ask = at_iteration(run, 3, lambda: requests.send(run, "set", {"gamma": 0.5, "minibatch_size": 48}))
    train_here(run, observer=ask)
    (answer,) = records(run, "control")
    assert answer["result"] == "rejected"
    assert "must divide num_envs × rollout_steps = 4 × 16 = 64" in answer["why"]
    untouched = make_run()
    train_here(untouched)
    assert_same_run(run, untouched)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"gamma": 1.2}, "gamma = 1.2: must be a number from 0 to 1"),
        ({"clip_epsilo": 0.1}, "did you mean clip_epsilon"),
        ({"hidden_sizes": [4]}, "start a new run"),
        ({"num_envs": 8}, "can't change during a run"),
        ({"pace": -1, "gamma": 0.5}, "pace = -1"),
    ],
)
def test_rejected_requests_say_why(make_run: MakeRun, changes: dict[str, Any], why: str) -> None:
    run = make_run()
    train_here(run, observer=at_iteration(run, 2, lambda: requests.send(run, "set", changes)))
    (answer,) = records(run, "control")
    assert answer["result"] == "rejected"
    assert why in answer["why"]


def test_steering_after_the_checkpoint_is_repeated_after_a_resume(make_run: MakeRun) -> None:
    straight, broken = (make_run(changes=[{"iteration": 3, "gamma": 0.9}]) for _ in range(2))

    def steer(run: RunFolder, *, stop: bool) -> Callable[[dict[str, Any]], None]:
        def observe(record: dict[str, Any]) -> None:
            if record["kind"] == "metrics" and record["iteration"] == 5:
                requests.send(run, "set", {"clip_epsilon": 0.05})
            if record["kind"] == "metrics" and record["iteration"] == 7 and stop:
                requests.send(run, "stop")

        return observe

    train_here(straight, observer=steer(straight, stop=False))
    train_here(broken, observer=at_iteration(broken, 2, lambda: requests.send(broken, "stop")))
    train_here(broken, observer=steer(broken, stop=True))
    damage_checkpoints_after(broken, 2)
    train_here(broken)
    assert "is damaged" in records(broken, "note")[0]["text"]
    assert_same_run(straight, broken)
    repeated = [record for record in records(broken, "control") if record.get("again")]
    assert [(record["iteration"], record["changes"]) for record in repeated] == [
        (6, {"clip_epsilon": [0.2, 0.05]})
    ]


def test_requests_from_before_a_restart_are_rejected(make_run: MakeRun) -> None:
    run = make_run()
    train_here(run, observer=at_iteration(run, 3, lambda: requests.send(run, "stop")))
    requests.send(run, "stop")
    assert train_here(run) == 0
    assert states(run)[-1] == "finished"
    assert "before the run was started again" in records(run, "control")[-1]["why"]


def by_hand(run: RunFolder, name: str, changes: dict[str, Any], request: str = "mine") -> None:
    """A request as a person or a script writes it."""
    fields = {"id": request, "time": 0, "action": "set", "changes": changes}
    (run.requests / f"{name}.json").write_bytes(orjson.dumps(fields))


def test_an_id_stands_for_one_request(make_run: MakeRun) -> None:
    run, straight = make_run(), make_run()

    def steer(folder: RunFolder, *, twice: bool) -> Callable[[dict[str, Any]], None]:
        def observe(record: dict[str, Any]) -> None:
            if record["kind"] == "metrics" and record["iteration"] == 3:
                by_hand(folder, "first", {"gamma": 0.9})
            if twice and record["kind"] == "metrics" and record["iteration"] in (5, 8):
                by_hand(folder, "second", {"clip_epsilon": 0.05})
            if twice and record["kind"] == "metrics" and record["iteration"] == 6:
                requests.send(folder, "stop")

        return observe

    train_here(straight, observer=steer(straight, twice=False))
    train_here(run, observer=steer(run, twice=True))
    train_here(run, observer=steer(run, twice=True))  # it is known also after another start
    assert_same_run(straight, run)
    results = [record["result"] for record in records(run, "control") if record["request"] == "mine"]
    assert results == ["applied", "rejected", "rejected"]
    assert "an id of its own" in records(run, "control")[-1]["why"]
    assert not list(run.requests.glob("*.json"))


def test_a_checkpoint_has_nothing_yet_of_what_is_to_be_in_force_after_it(make_run: MakeRun) -> None:
    """So what was changed twice before it was saved, and is repeated after a resume, is changed twice."""
    straight, broken = make_run(), make_run()

    def steer(run: RunFolder, *, stop: bool) -> Callable[[dict[str, Any]], None]:
        def ask() -> None:
            for rate in (3e-4, 7e-4):
                requests.send(run, "set", {"learning_rate": rate}, rebase=True)
            requests.send(run, "save")
            if stop:
                requests.send(run, "stop")

        return at_iteration(run, 3, ask)

    train_here(straight, observer=steer(straight, stop=False))
    train_here(broken, observer=steer(broken, stop=True))
    asked = {record["iteration"] for record in records(broken, "control")}
    assert len(asked) == 1
    settings = checkpoints.newest_good(broken)[1].numbers["settings"]  # type: ignore[index]
    assert settings["values"]["learning_rate"] not in (3e-4, 7e-4)
    train_here(broken)
    assert_same_run(straight, broken)


def test_what_was_answered_before_a_kill_is_not_answered_again(make_run: MakeRun) -> None:
    run = make_run()
    train_here(run, observer=at_iteration(run, 3, lambda: requests.send(run, "stop")))
    answer = records(run, "control")[-1]
    by_hand(run, "left", {}, answer["request"])  # a worker that was killed had no time to remove it
    train_here(run)
    answers = [record for record in records(run, "control") if record["request"] == answer["request"]]
    assert answers == [answer]


def test_what_is_asked_at_a_resume_outranks_what_was_asked_before(make_run: MakeRun) -> None:
    run = make_run()

    def observe(record: dict[str, Any]) -> None:
        if record["kind"] == "metrics" and record["iteration"] == 2:
            requests.send(run, "save")
        if record["kind"] == "metrics" and record["iteration"] == 4:
            requests.send(run, "set", {"gamma": 0.97, "epochs": 3})
            requests.send(run, "stop")

    train_here(run, observer=observe)
    damage_checkpoints_after(run, 2)
    asked = AskedAtStart({"gamma": 0.9}, rebase=False, request="r1", by="someone@here")
    train_here(run, asked=asked, observer=at_iteration(run, 6, lambda: requests.send(run, "stop")))
    again = [record["changes"] for record in records(run, "control") if record.get("again")]
    assert again == [{"epochs": [2, 3]}]
    damage_checkpoints_after(run, 2)
    train_here(run)
    settings = checkpoints.newest_good(run)
    assert settings is not None
    assert settings[1].numbers["settings"]["values"]["gamma"] == 0.9
    assert settings[1].numbers["settings"]["values"]["epochs"] == 3


def test_who_may_not_write_the_folder_can_not_steer_by_it(make_run: MakeRun) -> None:
    run = make_run()

    def intrude() -> None:
        requests.send(run, "set", {"gamma": 0.5})
        run.path.chmod(0o777)

    train_here(run, observer=at_iteration(run, 2, intrude))
    (answer,) = records(run, "control")
    assert answer["result"] == "rejected"
    assert "chmod" in answer["why"]


def test_the_values_that_a_change_is_checked_against_stay_untouched() -> None:
    values = PPOHyperparameters()
    assert check_changes(values, {"gamma": 0.5}) == {"gamma": 0.5}
    assert values.gamma == 0.99
