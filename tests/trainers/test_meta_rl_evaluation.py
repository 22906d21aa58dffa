"""What adaptation gains beside its baselines, and using a meta-learned policy without the program."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from trainers import load_meta_policy, meta_rl_evaluation
from trainers.declarations import as_json, make_settings
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


def trained(env, iterations=3, **values):
    setup = MAMLPPOSetup(env=env)
    h = make_settings(MAMLPPOHyperparameters, {**SMALL, **values})
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
        1.96 * np.std([1, 2, 6], ddof=1) / math.sqrt(3)
    )
    found = meta_rl_evaluation._difference(method, other)["by_step"][1]
    assert found["difference"] == pytest.approx(2.0)
    assert found["difference_ci95"] == pytest.approx(1.96 * 1.0 / math.sqrt(3))


def test_a_diverged_task_is_counted_and_not_hidden():
    learned = trained("navigation")
    wild = dataclasses.replace(learned.hyperparameters, inner_lr=1e30, eval_inner_lr=1e30)
    learned = dataclasses.replace(learned, hyperparameters=wild)
    (own,) = evaluate_meta_policy(learned, tasks=4, steps=2, baselines=False)["methods"]
    assert own["by_step"][0]["diverged"] == 0
    assert own["by_step"][2]["diverged"] == 4


# -- the baselines ----------------------------------------------------------------------------------------


def test_joint_training_takes_as_many_environment_steps_as_the_run(monkeypatch):
    learned = trained("cartpole-family", anneal_iterations=2)
    joints = []

    class Watched(MAMLPPO):
        def __init__(self, setup, h):
            super().__init__(setup, h)
            joints.append(self)

    monkeypatch.setattr(meta_rl_evaluation, "MAMLPPO", Watched)
    parameters = meta_rl_evaluation.train_jointly(learned)
    (joint,) = joints
    h = joint.settings.values
    taken = joint.state().numbers["steps"]
    assert learned.steps <= taken <= learned.steps + 200 * 3 * 4
    assert (h.inner_steps, h.iterations, h.anneal_iterations) == (0, 6, 4)
    assert (h.clip_epsilon, h.epochs, h.gamma) == (0.2, 2, 0.99)
    assert joint.setup.seed != learned.setup.seed
    assert all((parameters[name] != learned.parameters[name]).any() for name in parameters)


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
