"""What adaptation gains beside its baselines, and using a meta-learned policy without the program."""

import dataclasses
import json
import math
import types

import numpy as np
import pytest
import torch

from trainers import load_meta_policy, meta_rl_evaluation
from trainers.declarations import as_json, make_settings
from trainers.envs.replay import EnvironmentFault
from trainers.few_trajectories import MetaLearned
from trainers.hyperparameters import MAMLPPOHyperparameters, MAMLPPOSetup
from trainers.maml_ppo import MAMLPPO
from trainers.meta_rl_evaluation import JOINT, SCRATCH, UPDATES, Update, evaluate_meta_policy, fine_tune
from trainers.policy_adaptation import adapt, held_out_rates
from trainers.trainer import TrainingError

SMALL = {
    "iterations": 3,
    "meta_batch_size": 3,
    "trajectories_per_task": 4,
    "epochs": 2,
    "hidden_sizes": (8,),
    "eval_every": None,
    "picture_every": None,
    "inner_lr": 0.3,
    "eval_inner_lr": 0.2,
}


@pytest.fixture(scope="module", params=["navigation", "cartpole-family"])
def learned(request):
    return trained(request.param)


def make(**values):
    return make_settings(MAMLPPOHyperparameters, {**SMALL, **values})


def trained(env, iterations=3, **values):
    setup = MAMLPPOSetup(env=env)
    h = make(**values)
    maml = MAMLPPO(setup, h)
    for _ in range(iterations):
        maml.step()
    in_force = dataclasses.replace(maml.settings.values)
    numbers = maml.state().numbers
    return MetaLearned(setup, in_force, h, maml.policy, maml.parameters, numbers["steps"], iterations)


@pytest.fixture
def few_updates(monkeypatch):
    updates = (Update(0.3), Update(1.0), Update(0.01, 3))
    monkeypatch.setattr(meta_rl_evaluation, "UPDATES", updates)
    return updates


# -- the table --------------------------------------------------------------------------------------------


def test_every_method_has_a_row_for_every_step(learned, few_updates):
    said = []
    page = evaluate_meta_policy(learned, tasks=5, steps=2, progress=said.append)
    assert json.loads(json.dumps(page)) == page
    assert (page["task"], page["tasks"], page["steps"]) == (learned.setup.env, 5, 2)
    assert [method["name"] for method in page["methods"]] == ["maml-ppo", JOINT, SCRATCH]
    assert [other["name"] for other in page["differences"]] == ["before adapting", JOINT, SCRATCH]
    for method in page["methods"]:
        assert [row["step"] for row in method["by_step"]] == [0, 1, 2]
        assert [row["update"] is None for row in method["by_step"]] == [True, False, False]
    own, joint, scratch = page["methods"]
    assert [row["update"] for row in own["by_step"]][1:] == [
        "policy gradient, rate 0.3",
        "policy gradient, rate 0.2",
    ]
    assert {row["update"] for method in (joint, scratch) for row in method["by_step"][1:]} <= {
        str(update) for update in few_updates
    }
    for other, method in zip(page["differences"][1:], (joint, scratch), strict=True):
        for row, mine, theirs in zip(other["by_step"], own["by_step"], method["by_step"], strict=True):
            assert row["difference"] == pytest.approx(mine["return"] - theirs["return"], abs=1e-6)
    gains = [row["difference"] for row in page["differences"][0]["by_step"]]
    assert gains == [pytest.approx(row["return"] - own["by_step"][0]["return"]) for row in own["by_step"]]
    assert any("left" in text for text in said)


def test_the_same_run_is_always_worth_the_same(learned, few_updates):
    first, second = (evaluate_meta_policy(learned, tasks=4, steps=1) for _ in range(2))
    assert first == second
    other = evaluate_meta_policy(learned, tasks=4, steps=1, seed=99, baselines=False)
    assert other["methods"][0]["by_step"][0]["return"] != first["methods"][0]["by_step"][0]["return"]


def test_without_baselines_only_the_run_is_measured(learned):
    page = evaluate_meta_policy(learned, tasks=4, steps=0, baselines=False)
    assert [method["name"] for method in page["methods"]] == ["maml-ppo"]
    assert [other["name"] for other in page["differences"]] == ["before adapting"]
    assert len(page["methods"][0]["by_step"]) == 1


def test_intervals_and_paired_differences_are_those_of_statistics():
    returns = torch.tensor([[1.0, 2.0, 6.0], [2.0, 4.0, 9.0]], dtype=torch.float64)
    flags = torch.zeros(2, 3, dtype=torch.bool)
    method = meta_rl_evaluation._Method("a", returns, flags, ["x"])
    other = dataclasses.replace(method, name="b", returns=returns - torch.tensor([1.0, 2.0, 3.0]))
    assert meta_rl_evaluation._by_step(method)[0]["return_ci95"] == pytest.approx(
        4.302653 * np.std([1, 2, 6], ddof=1) / math.sqrt(3)
    )
    found = meta_rl_evaluation._difference(method, other)["by_step"][1]
    assert found["difference"] == pytest.approx(2.0)
    assert found["difference_ci95"] == pytest.approx(4.302653 * 1.0 / math.sqrt(3))


def test_a_diverged_task_is_counted_and_not_hidden():
    learned = trained("navigation")
    wild = dataclasses.replace(learned.hyperparameters, inner_lr=1e30, eval_inner_lr=1e30)
    learned = dataclasses.replace(learned, hyperparameters=wild)
    (own,) = evaluate_meta_policy(learned, tasks=4, steps=2, baselines=False)["methods"]
    assert own["by_step"][0]["diverged"] == 0
    assert own["by_step"][2]["diverged"] == 4


# -- the baselines ----------------------------------------------------------------------------------------


@pytest.fixture
def watched(monkeypatch):
    """The trainers that the baselines make; of each iteration the steps before it and the rate in it."""
    made = []

    class Watched(MAMLPPO):
        fault = None

        def __init__(self, setup, h):
            super().__init__(setup, h)
            made.append(self)
            self.rates = []

        def step(self):
            before = self.state().numbers["steps"]
            done = super().step()
            self.rates.append((before, done.metrics["meta/outer_lr"]))
            return dataclasses.replace(done, fault=self.fault and f"{self.fault} {done.number}")

    monkeypatch.setattr(meta_rl_evaluation, "MAMLPPO", Watched)
    Watched.made = made
    return Watched


def test_joint_training_takes_as_many_environment_steps_as_the_run(watched):
    learned = trained("cartpole-family", anneal_iterations=2)
    parameters, fault = meta_rl_evaluation.train_jointly(learned)
    (joint,) = watched.made
    h = joint.settings.values
    taken = joint.state().numbers["steps"]
    assert fault is None
    assert learned.steps <= taken <= learned.steps + 200 * 3 * 4
    assert h.inner_steps == 0
    assert (h.clip_epsilon, h.epochs, h.gamma) == (0.2, 2, 0.99)
    assert joint.setup.seed != learned.setup.seed
    assert all((parameters[name] != learned.parameters[name]).any() for name in parameters)


def test_the_joint_rate_goes_down_over_the_environment_steps_that_there_are(watched):
    learned = trained("cartpole-family", iterations=4, outer_lr=0.01, anneal_floor=0.1)
    # As if the run's episodes had been far longer than those of joint training.
    learned = dataclasses.replace(learned, begun=make(iterations=4, outer_lr=0.01), steps=20 * learned.steps)
    meta_rl_evaluation.train_jointly(learned)
    rates = watched.made[0].rates
    assert len(rates) > 40
    for steps, rate in rates:
        share = 4 * steps // learned.steps / 4
        assert rate == pytest.approx(0.01 * (1 - 0.9 * share))
    assert rates[len(rates) // 8][1] == 0.01  # the first quarter of what it takes


def test_a_constant_rate_stays_and_one_set_by_hand_is_not_taken_over(watched):
    learned = trained("navigation", anneal="none")
    by_hand = dataclasses.replace(learned.hyperparameters, outer_lr=0.5)
    meta_rl_evaluation.train_jointly(dataclasses.replace(learned, hyperparameters=by_hand))
    assert {rate for _, rate in watched.made[0].rates} == {1e-3}


def test_joint_training_that_broke_is_told(watched, few_updates, monkeypatch):
    learned = trained("navigation")
    watched.fault = "policy loss = nan in epoch"
    page = evaluate_meta_policy(learned, tasks=3, steps=1)
    assert [method.get("fault") for method in page["methods"]] == [
        None,
        "6 of 6 updates were skipped, the first in iteration 1: policy loss = nan in epoch 1",
        None,
    ]

    def broken(self):
        raise EnvironmentFault("env = navigation: it broke")

    monkeypatch.setattr(watched, "step", broken)
    with pytest.raises(TrainingError, match=r"^plain PPO on all tasks, .*: env = navigation: it broke; eval"):
        evaluate_meta_policy(learned, tasks=3, steps=1)


def test_many_tasks_are_played_in_parts_with_random_numbers_of_their_own(few_updates, monkeypatch):
    learned = trained("cartpole-family")
    whole = evaluate_meta_policy(learned, tasks=7, steps=1)
    sizes = []

    def noting(policy, parameters, family, tasks, *rest, **ratio):
        sizes.append(len(tasks))
        return adapt(policy, parameters, family, tasks, *rest, **ratio)

    monkeypatch.setattr(meta_rl_evaluation, "adapt", noting)
    # Of one task's 4 trajectories of 200 steps the network and the baseline take about 270 kB.
    monkeypatch.setattr(meta_rl_evaluation, "_BYTES_AT_ONCE", 1_000_000)
    first, second = (evaluate_meta_policy(learned, tasks=7, steps=1) for _ in range(2))
    assert first == second
    assert max(sizes) == 3
    assert first != whole
    assert first["methods"][0]["by_step"][0]["return"] == pytest.approx(
        whole["methods"][0]["by_step"][0]["return"], abs=20
    )
    played = []

    def play(tasks, seed):
        played.append((list(tasks), seed))
        return [types.SimpleNamespace(returns=torch.tensor([[task] * 2 for task in tasks]))]

    fixed = types.SimpleNamespace(learned=learned, family=learned.family())
    monkeypatch.setattr(meta_rl_evaluation, "_BYTES_AT_ONCE", 1)
    returns = meta_rl_evaluation._in_parts(play, fixed, [1.0, 2.0, 3.0], 5)
    assert returns.tolist() == [[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]]
    assert [tasks for tasks, _ in played] == [[1.0], [2.0], [3.0]]
    assert played[0][1] == 5
    assert len({seed for _, seed in played}) == 3


def test_each_task_is_fine_tuned_by_itself():
    learned = trained("navigation")
    family = learned.family()
    goals = torch.tensor([[0.4, 0.4], [-0.4, 0.1], [0.2, -0.5]])
    for update in (Update(1.0), Update(0.03, 4)):
        together = fine_tune(learned, learned.parameters, family, goals, update, 1, seed=3)
        # Another task beside it changes nothing but the numbers drawn after its own: let it go first.
        others = fine_tune(
            learned, learned.parameters, family, goals.flip(0)[-1:].expand(3, 2), update, 1, seed=3
        )
        assert together[0].returns[0] == pytest.approx(others[0].returns[0].tolist(), rel=1e-5)
        assert together[1].returns[0] == pytest.approx(others[1].returns[0].tolist(), rel=1e-3)


def test_ppo_epochs_help_where_the_goal_is_always_the_same():
    learned = trained("navigation", iterations=1, trajectories_per_task=20)
    family = learned.family()
    goals = torch.tensor([[0.5, 0.5]] * 3)
    went = fine_tune(learned, learned.parameters, family, goals, Update(0.03, 20), 4, seed=1)
    assert float(went[-1].returns.mean()) > float(went[0].returns.mean()) + 15


def test_the_update_that_returns_most_on_tasks_of_training_is_chosen(monkeypatch):
    learned = trained("navigation", trajectories_per_task=20)
    useless, useful = Update(1e-9), Update(0.03, 20)
    monkeypatch.setattr(meta_rl_evaluation, "UPDATES", (useless, useful, Update(1e30)))
    page = evaluate_meta_policy(learned, tasks=8, steps=3)
    for method in page["methods"][1:]:
        assert method["by_step"][3]["update"] == str(useful)


def test_the_grid_holds_both_kinds_of_update():
    assert {bool(update.epochs) for update in UPDATES} == {True, False}
    assert str(Update(0.3)) == "policy gradient, rate 0.3"
    assert str(Update(0.01, 5)) == "PPO, 5 epochs of Adam, rate 0.01"


# -- using a run's policy ---------------------------------------------------------------------------------


def test_adapting_is_what_evaluation_does(learned):
    h, family = learned.hyperparameters, learned.family()
    assert held_out_rates(h, 2) == [0.3, 0.2]
    task = family.sample_tasks(1, learned.generators("x").tasks)[0]
    adapted = learned.adapt(task, steps=2)
    generators = learned.generators("adaptation")
    sampled = adapt(learned.policy, learned.parameters, family, task[None], [0.3, 0.2], h, generators)
    assert adapted.returns == tuple(pytest.approx(float(data.returns.mean())) for data in sampled)
    seen = sampled[-1].observations[0, :, 0]
    distribution = sampled[-1].distribution
    outputs = getattr(distribution, "mean", getattr(distribution, "logits", None))[0, :, 0]
    expected = outputs.argmax(-1).numpy() if learned.setup.env == "cartpole-family" else outputs.clamp(-1, 1)
    np.testing.assert_allclose(adapted(seen.numpy()), expected, atol=1e-4)


def test_an_adapted_policy_takes_one_observation_or_many():
    adapted = trained("navigation").adapt([0.3, -0.2], steps=1, trajectories=2, seed=5)
    assert len(adapted.returns) == 2
    one = adapted([0.1, 0.2])
    assert one.shape == (2,)
    np.testing.assert_allclose(adapted(np.array([[0.1, 0.2]] * 3)), np.tile(one, (3, 1)), atol=1e-6)
    assert (adapted([0.1, 0.2], deterministic=False) != adapted([0.1, 0.2], deterministic=False)).any()
    with pytest.raises(ValueError, match=r"observation of shape \(3,\): must be \(2,\)"):
        adapted([0.1, 0.2, 0.3])
    push = trained("cartpole-family").adapt([1.0, 0.1, 0.5, -10.0], steps=1)(np.zeros(4))
    assert push in (0, 1)


@pytest.mark.parametrize(
    ("env", "task", "options", "message"),
    [
        ("navigation", [0.5], {}, "task = [0.5]: navigation takes 2 finite numbers: goal_x, goal_y"),
        ("navigation", 0.3, {}, "navigation takes 2 finite numbers: goal_x, goal_y"),
        ("navigation", [0.3, math.nan], {}, "nan]: navigation takes 2 finite numbers: goal_x, goal_y"),
        ("navigation", torch.zeros(5, 4), {}, "navigation takes 2 finite numbers"),
        ("navigation", "left", {}, "task = 'left': navigation takes 2 finite numbers: goal_x"),
        ("cartpole-family", [1.0, 0.1], {}, "takes 4 finite numbers: masscart, masspole, length, force_mag"),
        ("navigation", [0.3, 0.2], {"steps": -1}, "steps = -1: must be at least 0"),
        ("navigation", [0.3, 0.2], {"trajectories": 0}, "trajectories = 0: must be at least 1"),
    ],
)
def test_what_can_not_be_adapted_to_is_refused_in_one_line(env, task, options, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is compared below
        trained(env, iterations=0).adapt(task, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_family_whose_spaces_have_changed_is_refused_before_anything_is_played():
    learned = trained("navigation", iterations=0)
    other = dataclasses.replace(learned, setup=MAMLPPOSetup(env="cartpole-family"))
    refusal = r"env = cartpole-family: its observation space Box\(shape 4,.* is not the run's, Box\(shape 2,"
    for use in (other.family, lambda: other.adapt([0.1, 0.2]), lambda: evaluate_meta_policy(other, tasks=2)):
        with pytest.raises(TrainingError, match=refusal):
            use()


def test_a_folder_that_is_no_run_of_maml_ppo_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="not the folder of a run"):
        load_meta_policy(tmp_path)
    config = {"trainer": "ppo", "setup": {}, "hyperparameters": {}}
    (tmp_path / "run.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match="trainer = ppo: must be maml-ppo"):
        load_meta_policy(tmp_path)
    h = as_json(MAMLPPOHyperparameters())
    config = {"trainer": "maml-ppo", "setup": {"env": "navigation"}, "hyperparameters": h}
    (tmp_path / "run.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match="no policy to load: no checkpoint yet"):
        load_meta_policy(tmp_path)
