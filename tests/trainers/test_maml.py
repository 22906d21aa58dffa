"""MAML as a trainer: it learns to learn, can be steered, restored and drawn, and refuses what can't be."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from maml_runs import SMALL, trainer

from trainers import memory
from trainers.adaptation import Adaptation
from trainers.declarations import InvalidValue, make_settings
from trainers.hyperparameters import MAMLHyperparameters, MAMLSetup
from trainers.maml import MAML, measurements
from trainers.tasks import distribution
from trainers.trainer import State, TrainingError

CLOCKS = {"time/iterations_per_second", "time/iteration_seconds", "time/sample_seconds", "time/learn_seconds"}
VARIANTS = ("maml", "fomaml", "anil", "reptile", "metasgd")


def measured(maml, iterations):
    rows = [maml.step() for _ in range(iterations)]
    return [(r.number, {k: v for k, v in r.metrics.items() if k not in CLOCKS}, r.pictures) for r in rows]


def copied(state):
    """As it comes back from a checkpoint: numbers through JSON, arrays that may not be written to."""
    arrays = [{name: array.copy() for name, array in part.items()} for part in (state.weights, state.tensors)]
    for part in arrays:
        for array in part.values():
            array.flags.writeable = False
    return State(*arrays, json.loads(json.dumps(state.numbers)))


def last(maml, iterations):
    return [maml.step() for _ in range(iterations)][-1].metrics


# -- learning ---------------------------------------------------------------------------------------------


def test_xor_is_chance_before_adapting_and_right_after_it():
    metrics = last(
        trainer(hidden_sizes=(40, 40), meta_batch_size=16, inner_steps=5, eval_tasks=200, outer_lr=3e-3), 200
    )
    assert 0.45 <= metrics["meta_test/accuracy_pre"] <= 0.55
    assert metrics["meta_test/accuracy_post"] >= 0.97
    assert metrics["meta_test/loss_post"] < 0.15 < 0.6 < metrics["meta_test/loss_pre"]
    gain = metrics["meta/loss_pre"] - metrics["meta/loss_post"]
    assert metrics["meta/adaptation_gain"] == pytest.approx(gain)


@pytest.mark.parametrize("task", ["xor", "trainers.tasks.xor:FourPoints"])
def test_a_linear_model_adapts_to_no_xor(task):
    values = {"inner_lr": 0.1, "inner_steps": 5, "eval_inner_steps": 10, "shots": 5}
    metrics = last(trainer(task, hidden_sizes=(), meta_batch_size=25, eval_tasks=200, **values), 200)
    assert 0.45 <= metrics["meta_test/accuracy_post"] <= 0.6


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_lowers_the_loss_after_adapting(variant):
    values = {"hidden_sizes": (40, 40), "inner_steps": 3, "inner_lr": 0.02, "eval_inner_steps": 3}
    maml = trainer("sinusoid", {"variant": variant}, **values, outer_lr=5e-3, eval_every=50, eval_tasks=100)
    rows = [maml.step().metrics for _ in range(200)]
    key = "meta_test/loss_post_median"  # a mean may be one diverged task's
    held_out = [row[key] for row in rows if key in row]
    assert held_out[-1] < 0.9 * held_out[0]


def test_the_defaults_suit_a_task_without_a_preset():
    quick = {"meta_batch_size": 10, "eval_tasks": 100, "picture_every": None}
    maml = MAML(MAMLSetup(task="sinusoid"), make_settings(MAMLHyperparameters, quick))
    rows = [maml.step() for _ in range(300)]
    assert not any(row.fault for row in rows)
    held_out = [row.metrics["meta_test/loss_post"] for row in rows if "meta_test/loss_post" in row.metrics]
    assert held_out[-1] < 0.75 * rows[0].metrics["meta/loss_pre"]
    assert rows[-1].metrics["meta_test/diverged_tasks"] <= 5


def test_the_convolutional_network_trains_and_says_what_it_does(tiny_omniglot):
    values = {"network": "conv", "filters": 4, "ways": 3, "shots": 1, "query_shots": 2, "eval_every": 1}
    maml = trainer("omniglot", {"data": str(tiny_omniglot)}, **values)
    assert any("transductive" in remark for remark in maml.remarks())
    first = maml.step()
    assert math.isfinite(first.metrics["meta_test/loss_post"])
    with pytest.raises(TrainingError, match=r"network = conv: the task's inputs are \[2\]"):
        trainer(network="conv")


# -- measurements -----------------------------------------------------------------------------------------


def test_metrics_tell_every_step_and_the_median():
    maml = trainer("sinusoid", inner_steps=3, eval_inner_steps=4, eval_every=2, inner_lr=0.005)
    first, second = maml.step().metrics, maml.step().metrics
    assert [f"meta/loss_step_{step}" in first for step in range(5)] == [True] * 4 + [False]
    assert first["meta/loss_step_0"] == first["meta/loss_pre"]
    assert first["meta/loss_step_3"] == first["meta/loss_post"]
    assert "meta_test/loss_post" not in first
    assert second["meta_test/loss_step_4"] == second["meta_test/loss_post"]
    assert {"meta/loss_post_median", "meta/diverged_tasks", "meta/outer_grad_norm", "meta/inner_lr"} <= set(
        first
    )
    assert "meta/accuracy_post" not in first


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        # Solved tasks: the median is about 0, and what was lowered to 1e-3 has not diverged.
        ([[0.7] * 5, [1e-9, 1e-9, 1e-9, 1e-3, 0.9]], [False, False, False, False, True]),
        # Above what it was, but no more than ten times the median.
        ([[1.0] * 5, [0.5, 0.5, 0.5, 4.9, 5.1]], [False, False, False, False, True]),
        # Lowered, and still more than ten times the median.
        ([[50.0] * 5, [0.5, 0.5, 0.5, 0.5, 20.0]], [False] * 5),
        ([[1.0] * 5, [1.0, math.nan, math.inf, math.inf, math.inf]], [False, True, True, True, True]),
        ([[1.0] * 2, [math.nan, math.nan]], [True, True]),
    ],
)
def test_a_diverged_task_is_worse_than_before_and_far_from_the_others(losses, expected):
    went = Adaptation(torch.tensor(losses), None)
    assert went.diverged().tolist() == [[False] * len(expected), expected]
    assert measurements(went)["diverged_tasks"] == sum(expected)


def test_measuring_and_drawing_change_nothing_of_training():
    plain = trainer(eval_every=None)
    watched = trainer(eval_every=1, picture_every=1)
    last(plain, 3), last(watched, 3)
    for name, parameter in plain.parameters.items():
        assert torch.equal(parameter, watched.parameters[name])


def test_a_meta_gradient_that_is_no_number_is_skipped_and_said():
    maml = trainer("sinusoid", inner_lr=100.0, inner_steps=20, eval_every=None)
    before = {name: p.detach().clone() for name, p in maml.parameters.items()}
    fault = maml.step().fault
    told = (
        "6 tasks diverged; the update was skipped; use a smaller inner_lr or outer_lr, or fewer inner_steps"
    )
    assert fault == f"meta-gradient norm = nan, {told}"
    assert all(torch.equal(before[name], p) for name, p in maml.parameters.items())


def test_annealing_options_of_mamlpp_are_phases():
    annealed, first_order = trainer(first_order_until=2), trainer(setup={"variant": "fomaml"})
    assert measured(annealed, 2) == measured(first_order, 2)
    assert measured(annealed, 1) != measured(first_order, 1)
    plain, multi_step = measured(trainer(), 1), measured(trainer(multi_step_until=2), 1)
    assert plain[0][1]["meta/loss_post"] == multi_step[0][1]["meta/loss_post"]
    assert plain[0][1]["meta/outer_grad_norm"] != multi_step[0][1]["meta/outer_grad_norm"]


# -- steering and restoring -------------------------------------------------------------------------------


def test_live_changes_take_effect_with_the_next_iteration():
    maml = trainer(anneal="none")
    maml.step()
    done = maml.change({"inner_lr": 0.05, "inner_steps": 4, "meta_batch_size": 3, "shots": 2})
    assert done["inner_lr"] == (0.1, 0.05)
    metrics = maml.step().metrics
    assert metrics["meta/inner_lr"] == 0.05
    assert "meta/loss_step_4" in metrics
    assert maml.training_tasks.support_rows == 8
    for name, value in {"ways": 3, "hidden_sizes": (8,), "activation": "tanh"}.items():
        with pytest.raises(InvalidValue, match=f"{name} = .*can't change during a run"):
            maml.change({name: value})


def test_a_changed_inner_rate_overwrites_what_metasgd_learned_and_its_moments():
    maml = trainer(setup={"variant": "metasgd"})
    last(maml, 3)
    assert len({float(rate.detach().mean()) for rate in maml.rates.values()}) > 1
    learned = float(torch.cat([rate.detach().flatten() for rate in maml.rates.values()]).mean())
    assert learned != maml.settings.values.inner_lr
    assert maml.change({"inner_lr": 0.2}) == {"inner_lr": (learned, 0.2)}
    assert all((rate == 0.2).all() for rate in maml.rates.values())
    assert all(rate not in maml.optimizer.state for rate in maml.rates.values())
    assert all(parameter in maml.optimizer.state for parameter in maml.parameters.values())
    assert maml.step().fault is None


def test_it_ends_and_goes_on_with_more():
    maml = trainer(iterations=2)
    last(maml, 2)
    assert maml.finished == "trained for 2 iterations"
    maml.change({"iterations": 3})
    assert maml.finished is None
    assert maml.progress == (2, 3, "iterations")


@pytest.mark.parametrize("options", [{}, {"first_order_until": 5}, {"multi_step_until": 6}], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_restored_trainer_goes_on_bit_for_bit(variant, options):
    values = {"eval_every": 2, "picture_every": 2, **options}
    whole = trainer(setup={"variant": variant}, **values)
    last(whole, 3)
    whole.change({"inner_lr": 0.07, "shots": 3})
    whole.change({"outer_lr": 2e-3}, rebase=True)
    measured(whole, 1)
    state = copied(whole.state())
    expected = measured(whole, 4)
    resumed = trainer(setup={"variant": variant}, **values)
    resumed.step()
    assert resumed.restore(state) is None
    assert resumed.iteration == 4
    assert measured(resumed, 4) == expected
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


# -- memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "values"),
    [
        ("maml", {"hidden_sizes": (200, 200), "inner_steps": 4}),
        ("metasgd", {"hidden_sizes": (32, 32), "inner_steps": 6}),
        ("fomaml", {"query_shots": 200, "inner_steps": 6, "multi_step_until": 10}),
        ("maml", {"query_shots": 200, "inner_steps": 5, "multi_step_until": 10}),
        ("anil", {"hidden_sizes": (64,), "inner_steps": 3}),
    ],
)
def test_the_estimate_is_what_an_iteration_holds(variant, values):
    maml = trainer(setup={"variant": variant}, eval_every=None, **values)
    held = memory.peak_bytes(maml.step)
    assert held < maml.memory.needed < 2 * held


def test_what_is_held_is_counted_forward_and_backward():
    weight = torch.ones(1000, requires_grad=True)

    def compute():
        product = (weight * weight.exp()).sum()  # the power, the product, and the sum
        torch.autograd.grad(product, weight)  # at the most: two gradients more, with the product let go

    held = memory.peak_bytes(compute)
    assert 12_000 <= held <= 16_100
    assert memory.peak_bytes(lambda: None) == 0
    assert memory.peak_bytes(lambda: [torch.zeros(1000) for _ in range(3)]) == 12_000


def test_query_losses_after_every_step_are_counted_where_they_are_asked_for(monkeypatch):
    maml = trainer(inner_steps=8, query_shots=100)
    plain = maml.memory.needed
    maml.change({"multi_step_until": 100})
    assert maml.memory.needed > 2 * plain
    monkeypatch.setattr(memory, "available_memory", lambda device: plain)
    with pytest.raises(InvalidValue, match=r"^multi_step_until = 90: inner_steps = 8: memory: about "):
        maml.change({"multi_step_until": 90})


def test_a_resumed_run_tells_the_memory_of_what_is_in_force():
    whole, resumed = trainer(), trainer()
    whole.change({"meta_batch_size": 9, "inner_steps": 3})
    assert whole.remarks() != resumed.remarks()
    resumed.restore(copied(whole.state()))
    assert "9 tasks × 3 steps" in resumed.remarks()[0]
    assert resumed.memory.needed == whole.memory.needed


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch):
    maml = trainer(inner_steps=2)
    assert maml.remarks()[0].startswith("memory: about ")
    monkeypatch.setattr(memory, "available_memory", lambda device: 2 * maml.memory.needed)
    instead = (
        r"inner_steps = 100: memory: about .* are free; use --variant fomaml or first_order_until = 4000 "
        r"\(first order takes about .*B\), or fewer inner_steps"
    )
    with pytest.raises(TrainingError, match=instead):
        trainer(inner_steps=100)
    with pytest.raises(InvalidValue, match=instead):
        maml.change({"inner_steps": 100})
    assert maml.settings.values.inner_steps == SMALL["inner_steps"]
    trainer(setup={"variant": "fomaml"}, inner_steps=100)
    for variant in ("maml", "fomaml"):
        with pytest.raises(TrainingError, match="are free; use a smaller meta_batch_size, fewer shots or"):
            trainer(setup={"variant": variant}, inner_steps=100, meta_batch_size=1000)


def test_tasks_that_do_not_fit_are_refused_when_they_are_asked_for(monkeypatch):
    maml = trainer()
    monkeypatch.setattr(distribution.psutil, "virtual_memory", lambda: SimpleNamespace(available=10**6))
    with pytest.raises(InvalidValue, match=r"^eval_tasks = 100000: task = xor: 100000 tasks at once take"):
        maml.change({"eval_tasks": 100_000})
    assert maml.settings.values.eval_tasks == SMALL["eval_tasks"]


def test_a_network_that_does_not_fit_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 10**9)
    told = (
        r"^hidden_sizes = 65536,65536,65536: the network and its adaptation .* are free; use a smaller one$"
    )
    with pytest.raises(TrainingError, match=told):
        trainer(hidden_sizes=(65536,) * 3)


def test_bad_set_ups_are_named():
    with pytest.raises(TrainingError, match="device = tpu: must be cpu, cuda"):
        trainer(setup={"device": "tpu"})
    with pytest.raises(TrainingError, match="ways = 5: must be 2"):
        trainer(ways=5)
    with pytest.raises(TrainingError, match="ways = 5: task = sinusoid is regression, which has no classes"):
        trainer("sinusoid", ways=5)


def test_a_change_after_which_the_network_would_not_fit_is_refused(tmp_path, monkeypatch):
    (tmp_path / "wide_tasks.py").write_text(
        "import torch\n"
        "class Wide:\n"
        "    def __init__(self, shots): self.shots = shots\n"
        "    def sample_tasks(self, n, generator):\n"
        "        x = torch.rand(n, 4, self.shots, generator=generator)\n"
        "        return x, x[..., :1], x, x[..., :1]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    maml = trainer("wide_tasks:Wide", shots=3)
    told = r"^shots = 4: task = wide_tasks:Wide then has inputs \[4\] and 1 outputs: must stay \[3\] and 1"
    with pytest.raises(InvalidValue, match=told):
        maml.change({"shots": 4})
    assert maml.step().fault is None
