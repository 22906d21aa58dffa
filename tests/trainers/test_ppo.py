"""PPO as a trainer: what it learns, measures and refuses."""

import math

import numpy as np
import pytest
import torch

from trainers.declarations import InvalidValue, make_settings
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.metrics import METRICS
from trainers.ppo import PPO
from trainers.trainer import TrainingError

SMALL = {"num_envs": 8, "rollout_steps": 16, "minibatch_size": 32, "hidden_sizes": (16,), "eval_every": None}
PROBE = {
    "num_envs": 16, "rollout_steps": 16, "minibatch_size": 64, "epochs": 4, "learning_rate": 3e-3, "gamma": 0.8,
    "hidden_sizes": (16,), "anneal": "none", "eval_every": None, "total_steps": 10**9,
}  # fmt: skip


def trainer(env="CartPole-v1", *, seed=1, frame_stack=1, vector="auto", device="cpu", **values):
    setup = PPOSetup(env=env, seed=seed, frame_stack=frame_stack, vector=vector, device=device)
    return PPO(setup, make_settings(PPOHyperparameters, values))


def trained(env, iterations, **values):
    ppo = trainer(env, vector="sync", **{**PROBE, **values})
    for _ in range(iterations):
        assert ppo.step().fault is None
    return ppo


def values_at(ppo, *observations):
    with torch.no_grad():
        return ppo.policy.value(torch.tensor(observations).reshape(-1, 1)).tolist()


def greedy_at(ppo, *observations):
    with torch.no_grad():
        return ppo.policy.head.in_space(ppo.policy.greedy(torch.tensor(observations).reshape(-1, 1))).tolist()


# -- known answers ----------------------------------------------------------------------------------------


def test_learns_that_the_value_is_one():
    assert values_at(trained("probes:AlwaysOne", 40), 0.0) == pytest.approx([1], abs=0.05)


def test_learns_that_the_value_is_the_observation():
    ppo = trained("probes:RewardIsObservation", 60)
    assert values_at(ppo, -1.0, 1.0) == pytest.approx([-1, 1], abs=0.1)


def test_learns_that_two_steps_are_discounted():
    assert values_at(trained("probes:TwoSteps", 80), 0.0, 1.0) == pytest.approx([0.8, 1], abs=0.08)


def test_learns_the_value_of_what_a_truncation_cuts_off():
    # Without bootstrapping at the truncation the value would stay below (1 - γ⁵) ⁄ (1 - γ) = 3.4.
    assert values_at(trained("probes:CutOff", 150, gae_lambda=0.8), 0.0) == pytest.approx([5], abs=0.3)


def test_learns_the_action_that_fits_the_observation():
    assert greedy_at(trained("probes:RightActionForObservation", 40), -1.0, 1.0) == [0, 1]


def test_learns_two_actions_at_once():
    assert greedy_at(trained("probes:RightTwoActions", 60), -1.0, 1.0) == [[0, 2], [1, 2]]


def test_learns_a_position():
    ppo = trained("probes:RightPosition", 120)
    assert np.ravel(greedy_at(ppo, -1.0, 1.0)) == pytest.approx([-0.5, 0.5], abs=0.1)


# -- the update -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "values"),
    [("CartPole-v1", {}), ("Pendulum-v1", {"normalize_observations": True, "normalize_rewards": True})],
)
def test_the_ratio_is_one_on_the_first_minibatch(env, values):
    ppo = trainer(env, **{**SMALL, **values, "num_envs": 32, "hidden_sizes": (64, 64)})
    ppo.step()
    ppo.change({"epochs": 1, "minibatch_size": 32 * 16})
    metrics = ppo.step().metrics
    assert metrics["train/ratio_max"] == pytest.approx(1, abs=1e-6)
    assert metrics["train/approx_kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["train/clip_fraction"] == 0


def test_rows_that_only_reset_count_nowhere():
    ppo = trainer("probes:TwoSteps", vector="sync", **SMALL, epochs=1)
    iteration = ppo.step()
    # Two steps and a reset, over and over: of 16 rows 11 are steps, five times a reset stands between.
    assert iteration.metrics["time/steps"] == 8 * 11
    assert iteration.metrics["rollout/episodes"] == 8 * 5
    assert iteration.metrics["rollout/ep_len_mean"] == 2
    assert ppo.progress == (88, 5_000_000, "steps")


def test_target_kl_stops_the_epochs():
    ppo = trainer(**SMALL, epochs=50, learning_rate=0.05, target_kl=0.01)
    before = [parameter.clone() for parameter in ppo.policy.parameters()]
    ppo.step()
    free = trainer(**SMALL, epochs=50, learning_rate=0.05)
    free.step()

    def moved(other):
        return sum((p - q).norm().item() for p, q in zip(before, other.policy.parameters(), strict=True))

    assert 0 < moved(ppo) < moved(free) / 3


def test_normalisers_see_steps_but_no_resets():
    ppo = trainer("probes:TwoSteps", vector="sync", **SMALL, normalize_observations=True)
    ppo.step()
    assert ppo.policy.normalizer.count == 88
    # In 11 steps from 0: six times 0, five times 1.
    assert ppo.policy.normalizer.mean.item() == pytest.approx(5 / 11)


def test_reward_normaliser_leaves_the_reported_returns_raw():
    ppo = trainer("Pendulum-v1", vector="sync", **{**SMALL, "rollout_steps": 256}, normalize_rewards=True)
    assert ppo.step().metrics["rollout/ep_rew_mean"] < -500


def test_images_with_stacked_frames_train(monkeypatch):
    ppo = trainer("image_probe:Squares", frame_stack=4, vector="sync", **SMALL)
    before = [parameter.clone() for parameter in ppo.policy.features.parameters()]
    iteration = ppo.step()
    assert iteration.fault is None
    assert ppo.policy.observation.shape[0] == 4
    assert ppo.collector.observations.dtype == torch.uint8
    assert all((p != q).any() for p, q in zip(before, ppo.policy.features.parameters(), strict=True))


# -- what is not finite -----------------------------------------------------------------------------------


def test_a_value_that_is_not_a_number_is_found_before_the_optimizer_steps():
    ppo = trainer(**SMALL)
    ppo.step()
    with torch.no_grad():
        ppo.policy.critic[-1].bias.fill_(math.nan)
    before = {name: tensor.clone() for name, tensor in ppo.policy.state_dict().items()}
    iteration = ppo.step()
    assert iteration.number == 2
    assert "value loss = nan, gradient norm = nan in minibatch 1 of epoch 1;" in iteration.fault
    assert math.isnan(iteration.metrics["train/value_loss"])
    after = ppo.policy.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "critic.2.bias")
    with torch.no_grad():
        ppo.policy.critic[-1].bias.fill_(0)
    assert ppo.step().fault is None


def test_a_gradient_that_is_not_finite_is_named():
    ppo = trainer(**SMALL, learning_rate=1e-3, value_coef=1.0, normalize_advantages=False)
    with torch.no_grad():
        ppo.policy.critic[-1].weight.fill_(1e18)
    before = [parameter.clone() for parameter in ppo.policy.parameters()]
    fault = ppo.step().fault
    assert "gradient norm = inf in minibatch 1 of epoch 1;" in fault
    assert all(torch.equal(p, q) for p, q in zip(before, ppo.policy.parameters(), strict=True))


# -- steering ---------------------------------------------------------------------------------------------

LIVE = {
    "total_steps": 10_000, "minibatch_size": 64, "epochs": 2, "learning_rate": 0.01, "clip_epsilon": 0.05,
    "value_clip_epsilon": 0.001, "target_kl": 1e-6, "gamma": 0.5, "gae_lambda": 0.1, "entropy_coef": 0.1,
    "value_coef": 2.0, "max_grad_norm": None, "normalize_advantages": False, "eval_every": 1,
    "eval_episodes": 3, "until": 400.0,
}  # fmt: skip


def test_every_live_hyperparameter_is_tried_here():
    from trainers.declarations import declarations

    known = declarations(PPOHyperparameters)
    assert set(LIVE) == {name for name, declaration in known.items() if declaration.changes == "live"}


@pytest.mark.parametrize("name", LIVE)
def test_a_changed_hyperparameter_is_in_force_from_the_next_iteration(name):
    ppo, same = trainer(**SMALL), trainer(**SMALL)
    for _ in range(2):
        ppo.step(), same.step()
    old = getattr(ppo.settings.values, name)
    assert ppo.change({name: LIVE[name]}) == {name: (old, LIVE[name])}
    changed, unchanged = ppo.step(), same.step()
    assert getattr(ppo.settings.values, name) == LIVE[name]
    assert np.isfinite(list(changed.metrics.values())).all()
    # Up to here both are the same run; what learning depends on tells them apart.
    assert changed.metrics["rollout/ep_rew_mean"] == unchanged.metrics["rollout/ep_rew_mean"]
    weights = zip(ppo.policy.parameters(), same.policy.parameters(), strict=True)
    equal = all(torch.equal(p, q) for p, q in weights)
    assert equal == (name in ("total_steps", "eval_every", "eval_episodes", "until"))
    assert ppo.step().fault is None


def test_a_change_by_hand_keeps_adams_moments_and_ends_the_schedule():
    ppo = trainer(**SMALL, total_steps=1000, anneal_floor=0.0)
    ppo.step()
    assert ppo.step().metrics["train/learning_rate"] < 1e-3
    moments = ppo.state().tensors["optimizer.actor.0.weight.exp_avg"]
    ppo.change({"learning_rate": 5e-4})
    np.testing.assert_array_equal(moments, ppo.state().tensors["optimizer.actor.0.weight.exp_avg"])
    assert [ppo.step().metrics["train/learning_rate"] for _ in range(2)] == [5e-4, 5e-4]


def test_annealing_ends_at_its_floor():
    ppo = trainer(**SMALL, anneal_steps=200, annealed=("learning_rate", "clip_epsilon"), anneal_floor=0.5)
    rows = [ppo.step().metrics for _ in range(4)]
    assert rows[0]["train/learning_rate"] == 1e-3
    assert 5e-4 < rows[1]["train/learning_rate"] < 1e-3
    assert rows[3]["train/learning_rate"] == pytest.approx(5e-4)
    assert rows[3]["train/clip_epsilon"] == pytest.approx(0.1)


def test_a_change_that_does_not_fit_is_refused_as_a_whole():
    ppo = trainer(**SMALL)
    with pytest.raises(InvalidValue, match="must divide num_envs × rollout_steps"):
        ppo.change({"gamma": 0.5, "minibatch_size": 33})
    assert ppo.settings.values.gamma == 0.99


# -- metrics, events, ends --------------------------------------------------------------------------------


def test_an_iteration_measures_what_is_declared():
    ppo = trainer(**{**SMALL, "eval_every": 2, "rollout_steps": 64})
    first, second = ppo.step().metrics, ppo.step().metrics
    assert set(second) == set(METRICS)
    assert set(METRICS) - set(first) == {"eval/return_mean", "eval/return_std"}
    assert np.isfinite(list(second.values())).all()


def test_lowest_and_highest_return_are_left_out_when_no_episode_ended():
    ppo = trainer("Pendulum-v1", vector="sync", **SMALL)
    metrics = ppo.step().metrics
    assert metrics["rollout/episodes"] == 0
    assert not [key for key in metrics if key.startswith("rollout/ep_")]


def test_evaluating_never_changes_training():
    plain, watched = trainer(**SMALL), trainer(**{**SMALL, "eval_every": 1})
    for _ in range(3):
        plain.step(), watched.step()
    for p, q in zip(plain.policy.parameters(), watched.policy.parameters(), strict=True):
        assert torch.equal(p, q)


def test_solving_is_said_once_and_until_ends_the_run():
    ppo = trainer(**SMALL, until=25.0)
    ppo.environments.reward_threshold = 15.0
    events = []
    while not ppo.finished:
        iteration = ppo.step()
        events += [(ppo.collector.episodes.mean, event) for event in iteration.events]
    [(mean, event)] = events
    assert event == f"solved: mean return {mean:.1f} over the last 100 episodes, threshold 15"
    assert "over the last 100 episodes, until = 25" in ppo.finished


def test_total_steps_end_the_run_and_more_of_them_continue_it():
    ppo = trainer(**SMALL, total_steps=200)
    while not ppo.finished:
        ppo.step()
    assert ppo.iteration == 2
    assert "total_steps = 200" in ppo.finished
    ppo.change({"total_steps": 1000})
    assert ppo.finished is None


def test_the_hyperparameters_given_are_left_as_they_are():
    given = make_settings(PPOHyperparameters, {**SMALL, "total_steps": 300})
    ppo = PPO(PPOSetup(), given)
    ppo.step(), ppo.step()
    assert ppo.settings.values.learning_rate < given.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device = gpu: must be cpu, cuda or cuda:N"),
        ("cpu:1", "device = cpu:1: must be cpu, cuda or cuda:N"),
        ("cuda:x", "device = cuda:x: must be cpu, cuda or cuda:N"),
        ("cuda:1", "device = cuda:1: no CUDA device is available; use --device cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError) as error:
        trainer(device=device)
    assert str(error.value) == message


def test_a_space_that_is_not_supported_is_refused():
    with pytest.raises(TrainingError, match="not supported"):
        trainer("probes:TupleAction", vector="sync", **SMALL)
