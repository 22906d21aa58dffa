"""PPO as a trainer: what it learns, measures and refuses."""

import math

import numpy as np
import pytest
import torch
from ppo_runs import SMALL, trainer

from trainers.declarations import InvalidValue, make_settings
from trainers.envs.vectors import EnvironmentFault
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.metrics import METRICS
from trainers.ppo import PPO, gradients
from trainers.trainer import TrainingError

PROBE = {
    "num_envs": 16, "rollout_steps": 16, "minibatch_size": 64, "epochs": 4, "learning_rate": 3e-3,
    "gamma": 0.8, "hidden_sizes": (16,), "anneal": "none", "eval_every": None, "total_steps": 10**9,
}  # fmt: skip


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
        return ppo.policy.head.shaped(ppo.policy.greedy(torch.tensor(observations).reshape(-1, 1))).tolist()


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


def test_learns_actions_that_are_counted_from_elsewhere():
    assert greedy_at(trained("probes:Counted", 60), -1.0, 1.0) == [-2, 2]
    assert greedy_at(trained("probes:CountedTwice", 50), -1.0, 1.0) == [[1, 2], [2, 2]]


def test_learns_a_position():
    ppo = trained("probes:RightPosition", 120)
    assert np.ravel(greedy_at(ppo, -1.0, 1.0)) == pytest.approx([-0.5, 0.5], abs=0.1)


# -- the update -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "values"),
    [
        ("CartPole-v1", {}),
        ("CartPole-v1", {"minibatch_size": 8}),
        ("Pendulum-v1", {"normalize_observations": True, "normalize_rewards": True}),
        ("image_probe:Squares", {}),
    ],
)
def test_the_ratio_is_one_on_the_first_minibatch(env, values, monkeypatch):
    found = []

    def spied(policy, batch, h):
        with torch.no_grad():
            ratio = (policy.evaluate(batch.observations, batch.actions)[0] - batch.log_probs).exp()
        found.append((ratio - 1).abs()[batch.weights > 0].max().item())
        return gradients(policy, batch, h)

    monkeypatch.setattr("trainers.ppo.gradients", spied)
    ppo = trainer(env, vector="sync", **{**SMALL, "learning_rate": 0.01, "hidden_sizes": (64, 64), **values})
    for _ in range(3):
        found.clear()
        ppo.step()
        assert found[0] <= 1e-6
        assert max(found) > 1e-3


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


@pytest.mark.parametrize(("kl", "minibatches"), [(0.149, 16), (0.151, 1)])
def test_target_kl_stops_at_one_and_a_half_times_it(kl, minibatches, monkeypatch):
    calls = []

    def with_this_kl(policy, batch, h):
        calls.append(gradients(policy, batch, h)._replace(approx_kl=kl))
        return calls[-1]

    monkeypatch.setattr("trainers.ppo.gradients", with_this_kl)
    ppo = trainer(**SMALL, target_kl=0.1)
    assert ppo.step().metrics["train/approx_kl"] == pytest.approx(kl)
    assert len(calls) == minibatches


def test_adams_epsilon_is_the_published_one():
    assert trainer(**SMALL).optimizer.epsilon == 1e-5


def test_gradients_are_scaled_down_to_the_norm_and_never_up(monkeypatch):
    ppo = trainer(**{**SMALL, "minibatch_size": 128, "epochs": 1})
    norms = []

    def norm_before_the_step():
        grads = [parameter.grad for parameter in ppo.policy.parameters()]
        norms.append(torch.nn.utils.get_total_norm(grads).item())

    monkeypatch.setattr(ppo.optimizer, "update", norm_before_the_step)
    measured = []
    for limit in (None, 1e3, 0.1):
        ppo.change({"max_grad_norm": limit})
        measured.append(ppo.step().metrics["train/grad_norm"])
    assert min(measured) > 0.2
    assert norms == pytest.approx([measured[0], measured[1], 0.1], rel=1e-4)


def test_a_minibatch_in_which_no_row_counts_is_left_out():
    # Of three rows one only resets: of many minibatches of two, some hold nothing else.
    ppo = trainer("probes:TwoSteps", vector="sync", **{**SMALL, "minibatch_size": 2}, epochs=1)
    with_rows, total = [], 0
    update = ppo._minibatches

    def counting(batch):
        nonlocal total
        total = len(batch.weights) // 2
        for item in update(batch):
            with_rows.append(item[2].weights.count_nonzero().item())
            yield item

    ppo._minibatches = counting
    assert ppo.step().fault is None
    assert min(with_rows) == 1
    assert total - 20 < len(with_rows) < total


def test_a_minibatch_holds_two_rows_at_least():
    with pytest.raises(InvalidValue, match="minibatch_size = 1: must be a whole number from 2 to"):
        trainer(**{**SMALL, "minibatch_size": 1})


def test_bytes_that_are_no_image_stay_none_when_stacked():
    ppo = trainer("probes:Bytes", frame_stack=8, vector="sync", **SMALL)
    assert ppo.policy.features is None
    assert ppo.step().fault is None


def test_normalisers_see_steps_but_no_resets():
    ppo = trainer("probes:TwoSteps", vector="sync", **SMALL, normalize_observations=True)
    ppo.step()
    assert ppo.policy.normalizer.count == 88
    # In 11 steps from 0: six times 0, five times 1.
    assert ppo.policy.normalizer.mean.item() == pytest.approx(5 / 11)


def test_reward_normaliser_leaves_the_reported_returns_raw():
    ppo = trainer("Pendulum-v1", vector="sync", **{**SMALL, "rollout_steps": 256}, normalize_rewards=True)
    assert ppo.step().metrics["rollout/ep_rew_mean"] < -500


def test_images_with_stacked_frames_train():
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


@pytest.mark.filterwarnings("error")
def test_a_gradient_that_is_not_finite_is_named():
    ppo = trainer(**SMALL, learning_rate=1e-3, value_coef=1.0, normalize_advantages=False)
    with torch.no_grad():
        ppo.policy.critic[-1].weight.fill_(1e18)
    before = [parameter.clone() for parameter in ppo.policy.parameters()]
    fault = ppo.step().fault
    assert "gradient norm = inf in minibatch 1 of epoch 1;" in fault
    assert all(torch.equal(p, q) for p, q in zip(before, ppo.policy.parameters(), strict=True))


def test_a_normaliser_takes_in_nothing_of_an_iteration_that_failed():
    ppo = trainer(**SMALL, normalize_observations=True)
    ppo.step()
    seen = ppo.policy.normalizer.count.item()
    with torch.no_grad():
        ppo.policy.critic[-1].bias.fill_(math.nan)
    assert ppo.step().fault
    assert ppo.policy.normalizer.count.item() == seen


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_normalisers_never_see_what_float32_does_not_hold(what):
    values = {**SMALL, "normalize_observations": True, "normalize_rewards": True}
    setup = PPOSetup(env="probes:Beyond", env_arg={"what": what}, vector="sync")
    ppo = PPO(setup, make_settings(PPOHyperparameters, values))
    ppo.step()
    with pytest.raises(EnvironmentFault, match="more than float32 holds"):
        ppo.step()
    for moments in (ppo.policy.normalizer, ppo.reward_normalizer.moments):
        assert all(tensor.abs().max() < 1e4 for tensor in moments.state_dict().values())


# -- metrics, events, ends --------------------------------------------------------------------------------


def test_an_iteration_measures_what_is_declared():
    ppo = trainer(**{**SMALL, "eval_every": 2, "rollout_steps": 64})
    first, second = ppo.step().metrics, ppo.step().metrics
    declared = {key for key in METRICS if key.startswith(("rollout/", "train/", "eval/"))}
    declared |= {
        f"time/{name}" for name in ("fps", "steps", "iteration_seconds", "env_seconds", "learn_seconds")
    }
    assert set(second) == declared
    assert declared - set(first) == {"eval/return_mean", "eval/return_std"}
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


def test_until_waits_for_a_hundred_episodes():
    ppo = trainer(**SMALL, until=1.0)
    first = ppo.step().metrics
    assert 1 <= first["rollout/episodes"] < 100
    assert first["rollout/ep_rew_mean"] > 1
    assert ppo.finished is None
    while not ppo.finished:
        episodes = ppo.step().metrics["rollout/episodes"]
    assert 100 <= episodes < 140


def test_total_steps_end_the_run_and_more_of_them_continue_it():
    ppo = trainer(**SMALL, total_steps=200)
    while not ppo.finished:
        ppo.step()
    assert ppo.iteration == 2
    assert "total_steps = 200" in ppo.finished
    ppo.change({"total_steps": 1000})
    assert ppo.finished is None


def test_the_last_iteration_is_evaluated():
    ppo = trainer(**{**SMALL, "eval_every": 100}, total_steps=200)
    assert "eval/return_mean" not in ppo.step().metrics
    assert "eval/return_mean" in ppo.step().metrics
    assert ppo.finished


def test_the_hyperparameters_given_are_left_as_they_are():
    given = make_settings(PPOHyperparameters, {**SMALL, "total_steps": 300})
    ppo = PPO(PPOSetup(), given)
    ppo.step(), ppo.step()
    assert ppo.settings.values.learning_rate < given.learning_rate == 3e-4


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
