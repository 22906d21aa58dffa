"""MAML-PPO as a trainer: it learns to adapt, can be steered and restored, and says what went wrong."""

import json
import math

import numpy as np
import pytest
import torch

from trainers import memory
from trainers.declarations import InvalidValue, make_settings
from trainers.envs.replay import EnvironmentFault
from trainers.hyperparameters import TRAINERS, MAMLPPOHyperparameters, MAMLPPOSetup
from trainers.maml_ppo import MAMLPPO, meta_loss
from trainers.memory import peak_bytes
from trainers.metrics import METRICS
from trainers.policy_adaptation import diverged, measurements
from trainers.trainer import State, TrainingError

SMALL = {
    "meta_batch_size": 4,
    "trajectories_per_task": 3,
    "epochs": 2,
    "hidden_sizes": (8,),
    "eval_tasks": 3,
    "eval_every": 2,
}
FAMILIES = pytest.mark.parametrize("env", ["navigation", "cartpole-family"])
VARIANTS = pytest.mark.parametrize("variant", ["maml-ppo", "promp", "fomaml-ppo"])


def trainer(env="navigation", setup=None, **values):
    hyperparameters = make_settings(MAMLPPOHyperparameters, {**SMALL, **values})
    return MAMLPPO(MAMLPPOSetup(env=env, **(setup or {})), hyperparameters)


def measured(maml, iterations):
    rows = [maml.step() for _ in range(iterations)]
    return [
        (r.number, {k: v for k, v in r.metrics.items() if not k.startswith("time/")} | {"fault": r.fault})
        for r in rows
    ]


def last(maml, iterations):
    return measured(maml, iterations)[-1][1]


def adapted(maml, tasks, rates):
    drawn = maml.family.sample_tasks(tasks, maml.generators.tasks)
    return maml.adapt(drawn, rates, maml.generators)


def copied(state):
    """As it comes back from a checkpoint: numbers through JSON, arrays that may not be written to."""
    arrays = [{name: array.copy() for name, array in part.items()} for part in (state.weights, state.tensors)]
    for part in arrays:
        for array in part.values():
            array.flags.writeable = False
    return State(*arrays, json.loads(json.dumps(state.numbers)))


# -- learning ---------------------------------------------------------------------------------------------


def test_it_learns_to_navigate_to_a_goal_that_only_rewards_tell():
    values = {"meta_batch_size": 10, "trajectories_per_task": 10, "hidden_sizes": (32, 32), "epochs": 3}
    maml = trainer(**values, inner_lr=0.5, outer_lr=1e-2, eval_tasks=20, eval_every=40, eval_inner_steps=1)
    found = last(maml, 40)
    assert -60 < found["meta_test/return_pre"] < -30
    assert found["meta_test/return_post"] > found["meta_test/return_pre"] + 12
    gain = found["meta_test/return_post"] - found["meta_test/return_pre"]
    assert found["meta_test/adaptation_gain"] == pytest.approx(gain)


@VARIANTS
@FAMILIES
def test_every_variant_runs_and_learns_something_of_its_own(env, variant):
    maml = trainer(env, {"variant": variant}, inner_kl_coef=1.0)
    found = last(maml, 2)
    assert found["fault"] is None
    assert all(math.isfinite(value) for key, value in found.items() if key != "fault")
    others = trainer(env, {"variant": {"maml-ppo": "promp"}.get(variant, "maml-ppo")}, inner_kl_coef=1.0)
    assert last(others, 2)["meta/outer_grad_norm"] != found["meta/outer_grad_norm"]


def test_without_inner_steps_it_is_ppo_on_all_tasks_alike():
    maml = trainer(inner_steps=0, eval_inner_steps=1)
    found = last(maml, 2)
    assert found["meta/return_pre"] == found["meta/return_post"]
    assert found["meta/inner_kl"] == found["meta/diverged_tasks"] == 0
    assert "meta_test/return_step_1" in found
    sampled = adapted(maml, 4, [])
    loss, _ = meta_loss(maml.policy, maml.parameters, sampled, maml.settings.values)
    ours = torch.autograd.grad(loss, list(maml.parameters.values()))
    (data,) = sampled
    x = data.observations.flatten(0, 2)
    for layer in ("layer1", "layer2"):
        x = x @ maml.parameters[f"{layer}.weight"] + maml.parameters[f"{layer}.bias"]
        x = x.tanh() if layer == "layer1" else x
    normal = torch.distributions.Normal(x, maml.parameters["log_std"].exp())
    ratio = (normal.log_prob(data.actions.flatten(0, 2)).sum(-1) - data.log_probs.flatten()).exp()
    surrogate = -(ratio * data.advantages.flatten() * data.shares.flatten()).sum() / 4
    for mine, theirs in zip(
        ours, torch.autograd.grad(surrogate, list(maml.parameters.values())), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-3)


def test_the_deviation_of_actions_adapts_too():
    maml = trainer(inner_lr=1.0)
    first, second = adapted(maml, 4, [1.0])
    deviations = [data.distribution.log_std.flatten(1) for data in (first, second)]
    assert not deviations[0].any()
    assert (deviations[1] != 0).all()
    assert len({tuple(row) for row in deviations[1].tolist()}) == 4


# -- measurements -----------------------------------------------------------------------------------------


def test_metrics_are_described_and_tell_every_step():
    maml = trainer(inner_steps=2, eval_inner_steps=3)
    first, second = maml.step().metrics, maml.step().metrics
    assert [f"meta/return_step_{step}" in first for step in range(4)] == [True] * 3 + [False]
    assert first["meta/return_step_2"] == first["meta/return_post"]
    assert "meta_test/return_post" not in first
    assert second["meta_test/return_step_3"] == second["meta_test/return_post"]
    assert {key for key in second if "return_step_" not in key} <= METRICS.keys()
    entry = TRAINERS["maml-ppo"]
    assert {entry.objective, *entry.charts} <= second.keys()
    assert METRICS["meta/return_post"].beside == "meta/return_pre"
    assert first["time/steps"] <= 3 * 4 * 3 * 100
    # The second also measures held-out tasks, which is no part of the speed.
    training = sum(second[f"time/{part}_seconds"] for part in ("sample", "adapt", "learn"))
    assert training < second["time/iteration_seconds"]
    steps = second["time/steps"] - first["time/steps"]
    assert second["time/fps"] == pytest.approx(steps / training)


def test_of_constant_returns_no_variance_is_explained():
    assert "train/explained_variance" in last(trainer("cartpole-family"), 1)
    assert "train/explained_variance" not in last(trainer("cartpole-family", gamma=0.0), 1)


def test_measuring_changes_nothing_of_training():
    plain, watched = trainer(eval_every=None), trainer(eval_every=1)
    last(plain, 3), last(watched, 3)
    for name, parameter in plain.parameters.items():
        assert torch.equal(parameter, watched.parameters[name])


def test_held_out_tasks_are_the_same_every_time():
    maml = trainer(outer_lr=1e-12, eval_every=1)
    first, second = (maml.step().metrics for _ in range(2))
    assert first["meta_test/return_post"] == pytest.approx(second["meta_test/return_post"], abs=1e-4)
    assert first["meta/return_post"] != pytest.approx(second["meta/return_post"], abs=1e-2)


def test_later_steps_on_held_out_tasks_may_be_smaller():
    maml = trainer(inner_lr=0.4, eval_inner_lr=0.1, eval_inner_steps=3)
    assert maml.held_out_rates() == [0.4, 0.1, 0.1]
    assert trainer(inner_lr=0.4, eval_inner_steps=2).held_out_rates() == [0.4, 0.4]


def test_what_is_not_finite_is_skipped_and_said():
    maml = trainer(inner_lr=100.0, inner_steps=3, eval_every=None)
    with torch.no_grad():
        maml.parameters["log_std"].fill_(-80.0)
    before = {name: p.detach().clone() for name, p in maml.parameters.items()}
    done = maml.step()
    assert "in epoch 1; this and the rest of the update were skipped" in done.fault
    assert done.fault.endswith(f"; {done.metrics['meta/diverged_tasks']:g} of 4 tasks diverged")
    assert all(torch.equal(before[name], p) for name, p in maml.parameters.items())
    assert done.metrics["meta/diverged_tasks"] > 0


@pytest.mark.parametrize("trajectories", [1, 2, 5])
def test_noise_is_no_divergence_and_a_huge_step_is(trajectories):
    for seed in (1, 2, 3):
        maml = trainer(setup={"seed": seed}, trajectories_per_task=trajectories, eval_every=None)
        found = [measurements(adapted(maml, 20, [rate]))["diverged_tasks"] for rate in (1e-6, 100.0)]
        assert found[0] == 0
        assert found[1] >= 3


def test_which_tasks_have_diverged():
    before = torch.tensor([[10.0, 12.0, 14.0], [-2.0, 0.0, 2.0]])
    # Both deviations are 2, and with 4 degrees of freedom chance takes 13.03 √2 of them.
    means = torch.tensor([[12.0, 0.0], [-24.8, -36.8], [-24.9, -36.9], [math.nan, -math.inf]])
    expected = [[False, False], [False, False], [True, True], [True, True]]
    assert diverged(before, means).tolist() == expected
    # A task that varies more than the others may fall further.
    noisy = torch.cat((before * torch.tensor([[1.0], [100.0]]), before.repeat(20, 1)))
    fell = torch.full((42,), -1000.0)
    assert diverged(noisy, fell).tolist() == [True, False] + [True] * 40
    # One trajectory each: how tasks differ is all that is known; of a single number nothing is.
    assert diverged(torch.tensor([[0.0], [2.0], [1.0]]), torch.tensor([0.0, -97.0, -100.0])).tolist() == [
        False,
        False,
        True,
    ]
    assert not diverged(torch.tensor([[1.0]]), torch.tensor([-1e9])).any()
    # Where nothing varies rounding must not count.
    constant = torch.full((2, 3), 199.99)
    assert diverged(constant, torch.tensor([199.98999, 198.0])).tolist() == [False, True]


def test_a_kl_target_ends_the_epochs():
    free, held = trainer(epochs=20, outer_lr=0.05), trainer(epochs=20, outer_lr=0.05, target_kl=0.01)
    assert last(held, 1)["train/approx_kl"] < last(free, 1)["train/approx_kl"]


# -- steering and restoring -------------------------------------------------------------------------------


def test_live_changes_take_effect_with_the_next_iteration():
    maml = trainer()
    maml.step()
    changes = {"inner_lr": 0.05, "inner_steps": 2, "meta_batch_size": 3, "trajectories_per_task": 2}
    assert maml.change(changes)["inner_lr"] == (0.1, 0.05)
    metrics = maml.step().metrics
    assert metrics["meta/inner_lr"] == 0.05
    assert "meta/return_step_2" in metrics
    for name, value in {"hidden_sizes": (4,), "activation": "relu"}.items():
        with pytest.raises(InvalidValue, match=f"{name} = .*can't change during a run"):
            maml.change({name: value})


def test_a_penalty_that_the_variant_has_not_is_refused():
    for variant in ("maml-ppo", "fomaml-ppo"):
        maml = trainer(setup={"variant": variant})
        with pytest.raises(InvalidValue) as caught:
            maml.change({"inner_lr": 0.2, "inner_kl_coef": 0.1})
        assert str(caught.value) == (
            "inner_kl_coef = 0.1: only variant = promp has this penalty, and this run's is " + variant
        )
        assert maml.settings.values.inner_lr == 0.1
    assert trainer(setup={"variant": "promp"}).change({"inner_kl_coef": 0.1}) == {
        "inner_kl_coef": (5e-4, 0.1)
    }


def test_an_environment_whose_spaces_have_changed_is_refused():
    def shaped(*shape):
        return trainer("task_probes:Shaped", {"vector": "sync", "env_arg": {"shape": shape}}, eval_every=None)

    state, other = copied(shaped(3).state()), shaped(2)
    with pytest.raises(TrainingError) as caught:
        other.restore(state)
    assert str(caught.value).startswith(
        "env = task_probes:Shaped: its observation space Box(shape 2, dtype float32, low 0, high 255) is not "
        "the run's, Box(shape 3, dtype float32, low 0, high 255); the environment has changed"
    )
    assert shaped(3).restore(state) is None


@FAMILIES
@VARIANTS
def test_a_restored_trainer_goes_on_bit_for_bit(env, variant):
    whole = trainer(env, {"variant": variant})
    last(whole, 2)
    whole.change({"inner_lr": 0.07, "clip_epsilon": 0.1, "trajectories_per_task": 4, "epochs": 3})
    measured(whole, 1)
    state = copied(whole.state())
    expected = measured(whole, 3)
    resumed = trainer(env, {"variant": variant})
    resumed.step()
    assert resumed.restore(state) is None
    assert resumed.iteration == 3
    assert measured(resumed, 3) == expected
    first, second = whole.state(), resumed.state()
    assert json.dumps(first.numbers) == json.dumps(second.numbers)
    for one, other in ((first.weights, second.weights), (first.tensors, second.tensors)):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    first, second = measured(trainer(), 2), measured(trainer(), 2)
    assert first == second
    assert measured(trainer(setup={"seed": 2}), 2) != first


def test_it_ends_and_goes_on_with_more():
    maml = trainer(iterations=2)
    last(maml, 2)
    assert maml.finished == "trained for 2 iterations"
    maml.change({"iterations": 3})
    assert maml.finished is None
    assert maml.progress == (2, 3, "iterations")


@FAMILIES
def test_a_resumed_run_is_built_with_what_was_decided(env):
    maml = trainer(env)
    assert trainer(env, maml.decisions()).decisions() == maml.decisions()


def test_bad_set_ups_are_named():
    with pytest.raises(TrainingError, match="device = tpu: must be cpu, cuda"):
        trainer(setup={"device": "tpu"})
    with pytest.raises(TrainingError, match=r"env = navigaton: .*navigation"):
        trainer("navigaton")


def test_an_iteration_that_could_not_be_sampled_is_not_counted(monkeypatch):
    maml = trainer()
    maml.step()

    def broken(actions):
        raise EnvironmentFault("env = navigation: it broke")

    with monkeypatch.context() as patched:
        patched.setattr(maml.family, "step", broken)
        with pytest.raises(EnvironmentFault):
            maml.step()
    assert maml.iteration == 1
    assert maml.step().number == 2


# -- memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["maml-ppo", "fomaml-ppo"])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_the_estimate_is_what_learning_holds_at_its_most(steps, variant):
    values = {"meta_batch_size": 6, "trajectories_per_task": 10, "epochs": 1, "eval_every": None}
    maml = trainer(setup={"variant": variant}, inner_steps=steps, hidden_sizes=(64, 64), **values)
    held = peak_bytes(maml.step)
    assert 1.2 * held < maml.memory.needed < 1.9 * held  # a process grows by half as much again


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch):
    maml = trainer()
    assert maml.remarks()[0].startswith("memory: about ")
    monkeypatch.setattr(memory, "available_memory", lambda device: 3 * maml.memory.needed)
    refusal = r"meta_batch_size = 1000: memory: about .* are free; use a smaller meta_batch_size"
    with pytest.raises(TrainingError, match=refusal):
        trainer(meta_batch_size=1000)
    with pytest.raises(InvalidValue, match=refusal):
        maml.change({"meta_batch_size": 1000})
    assert maml.settings.values.meta_batch_size == SMALL["meta_batch_size"]


def test_a_resumed_run_tells_the_memory_of_what_is_in_force():
    whole, resumed = trainer(), trainer()
    whole.change({"meta_batch_size": 7, "inner_steps": 2})
    assert whole.remarks() != resumed.remarks()
    resumed.restore(copied(whole.state()))
    assert "(7 tasks × 2 steps, second order)" in resumed.remarks()[0]
    assert resumed.memory.needed == whole.memory.needed


def test_held_out_tasks_that_do_not_fit_are_refused_where_there_are_measurements(monkeypatch):
    maml = trainer(eval_every=None, eval_tasks=1000)
    monkeypatch.setattr(memory, "available_memory", lambda device: 3 * maml.memory.needed)
    with pytest.raises(InvalidValue, match=r"eval_every = 5: .*use a smaller eval_tasks"):
        maml.change({"eval_every": 5})
    maml.change({"eval_tasks": 4, "eval_every": 5})
    with pytest.raises(InvalidValue, match=r"eval_tasks = 1000: memory: about .* are free; use a smaller"):
        maml.change({"eval_tasks": 1000})


def test_networks_too_large_to_try_are_refused_before_they_are_made():
    with pytest.raises(TrainingError, match=r"hidden_sizes = 65536,65536: the network .* use a smaller one"):
        trainer(hidden_sizes=(65536, 65536))


@pytest.mark.parametrize(
    ("shape", "dtype", "refusal"),
    [
        ((84, 84, 3), "uint8", r"its observation, uint8 of shape \(84, 84, 3\), is an image; maml-ppo takes"),
        ((3, 32, 32), "float32", "is an image; maml-ppo takes vectors of about unit size"),
        ((128,), "uint8", r"its observation, uint8 of shape \(128,\), is made of bytes; maml-ppo takes"),
        ((200_000,), "float32", "observations of 200000 numbers: the baseline's fit to 3 trajectories takes"),
    ],
)
def test_observations_that_the_baseline_can_not_read_are_refused(shape, dtype, refusal):
    setup = {"vector": "sync", "env_arg": {"shape": shape, "dtype": dtype}}
    with pytest.raises(TrainingError, match=refusal):
        trainer("task_probes:Shaped", setup, eval_every=None)
