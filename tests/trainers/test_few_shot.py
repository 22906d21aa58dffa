"""Using what was meta-learned, from a run folder: adapting to new rows, evaluating beside baselines."""

import json

import numpy as np
import pytest
import torch
from maml_runs import trainer, write_checkpoint, write_run

from trainers import adaptation, load_learner, meta_evaluation
from trainers.adaptation import task_losses
from trainers.fast_weights import FastWeights
from trainers.few_shot import learner_of
from trainers.meta_evaluation import evaluate_learner, train_jointly
from trainers.tasks import Options, TaskSource
from trainers.trainer import TrainingError


@pytest.fixture(scope="module")
def xor_run(tmp_path_factory):
    maml = trainer(meta_batch_size=16, inner_steps=5, hidden_sizes=(40, 40), outer_lr=3e-3, eval_every=None)
    for _ in range(200):
        maml.step()
    run = tmp_path_factory.mktemp("runs") / "xor"
    write_run(run, maml)
    return run


@pytest.fixture(scope="module")
def xor(xor_run):
    return load_learner(xor_run)


def a_task(task="xor", seed=5, **options):
    source = TaskSource(task, Options(**{"ways": 2, "shots": 5, "query_shots": 25, **options}))
    tasks = source.sample_tasks(1, torch.Generator().manual_seed(seed))
    return [part[0].numpy() for part in tasks]


def test_a_few_rows_teach_a_new_task(xor):
    rights = []
    for seed in range(20):
        x, y, x_new, y_new = a_task(seed=seed)
        model = xor.adapt(x, y)
        rights.append((model(x_new) == y_new).mean())
        assert model(x_new).dtype == np.int64
        assert len(model.losses) == 11
        assert model.losses[-1] < model.losses[0]
    assert np.mean(rights) >= 0.95
    np.testing.assert_allclose(model.probabilities(x_new).sum(1), 1, rtol=1e-5)
    assert (model.probabilities(x_new).argmax(1) == model(x_new)).all()


def test_steps_and_rate_may_differ_from_the_runs(xor):
    x, y, x_new, _ = a_task()
    assert len(xor.adapt(x, y, steps=3).losses) == 4
    unmoved = xor.adapt(x.tolist(), y.tolist(), steps=0)
    assert len(unmoved.losses) == 1
    slow = xor.adapt(x, y, steps=1, inner_lr=1e-9)
    np.testing.assert_allclose(slow.probabilities(x_new), unmoved.probabilities(x_new), rtol=1e-4)


def test_the_four_points_of_the_truth_table_are_learned(xor):
    for seed in range(4):
        x, y, corners, labels = a_task("trainers.tasks.xor:FourPoints", seed, shots=5, query_shots=1)
        assert (xor.adapt(x, y)(corners) == labels).all()


@pytest.mark.parametrize("variant", ["anil", "metasgd"])
def test_a_loaded_learner_adapts_as_the_trainer_does(tmp_path, variant):
    maml = trainer("sinusoid", {"variant": variant}, eval_inner_lr=0.002)
    maml.step()
    maml.change({"inner_lr": 0.02})
    maml.step()
    write_run(tmp_path / "run", maml)
    learner = load_learner(tmp_path / "run")
    x, y, x_new, _ = a_task("sinusoid")
    found, expected = (each.adapt(x, y) for each in (learner, learner_of(maml)))
    assert learner.hyperparameters.inner_lr == 0.02
    assert found.losses == expected.losses
    np.testing.assert_array_equal(found(x_new), expected(x_new))
    assert found(x_new).shape == (25, 1)
    np.testing.assert_array_equal(learner.adapt(x[:, 0], y[:, 0])(x_new[:, 0]), found(x_new))


def test_rows_that_do_not_fit_are_refused(xor):
    x, y, _, _ = a_task()
    with pytest.raises(ValueError, match=r"x of shape \[20, 3\]: must be \['rows', 2\]"):
        xor.adapt(np.zeros((20, 3)), y)
    with pytest.raises(ValueError, match="y: must be class numbers from 0 to 1"):
        xor.adapt(x, y + 1)
    with pytest.raises(ValueError, match="y has 19 rows and x 20"):
        xor.adapt(x, y[1:])
    for wrong in ([["a", 1]], [[1, 2], [3]]):
        with pytest.raises(ValueError, match="x: must be numbers, in rows of one length"):
            xor.adapt(wrong, [0] * len(wrong))
    for wrong in (1e39, np.nan):
        with pytest.raises(ValueError, match="x: must be finite numbers"):
            xor.adapt([[wrong, 0]], [0])
    with pytest.raises(ValueError, match="steps = -1: must be at least 0"):
        xor.adapt(x, y, steps=-1)


def test_which_checkpoint_is_loaded_and_what_cannot_be(tmp_path, xor_run):
    maml = trainer()
    maml.step()
    write_run(tmp_path / "run", maml)
    maml.step()
    newest = write_checkpoint(tmp_path / "run", maml)
    assert load_learner(tmp_path / "run").iteration == 2
    assert load_learner(tmp_path / "run", at=1).iteration == 1
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert load_learner(tmp_path / "run").iteration == 1
    with pytest.raises(TrainingError, match=r"no learner to load: checkpoint 00000002 is damaged"):
        load_learner(newest)
    with pytest.raises(TrainingError, match="not the folder of a run"):
        load_learner(tmp_path)
    config = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**config, "trainer": "ppo"}))
    with pytest.raises(TrainingError, match="trainer = ppo: must be maml"):
        load_learner(tmp_path / "run")


def test_the_evaluation_stands_beside_its_baselines(xor):
    result = evaluate_learner(xor, tasks=100, steps=5, baseline_iterations=150)
    json.dumps(result)
    assert result["tasks"] == 100
    assert result["transductive"] is False
    meta, joint, scratch, converged = result["methods"]
    assert [row["step"] for row in meta["by_step"]] == list(range(6))
    first, last = meta["by_step"][0], meta["by_step"][-1]
    assert 0.45 <= first["accuracy"] <= 0.55
    assert last["accuracy"] >= 0.95
    assert last["accuracy_worst"] < last["accuracy"] <= last["accuracy_median"]
    assert 0 < last["accuracy_ci95"] < 0.03
    assert 0.45 <= joint["by_step"][0]["accuracy"] <= 0.55
    assert 0.4 <= scratch["by_step"][0]["accuracy"] <= 0.6
    assert max(joint["by_step"][-1]["accuracy"], scratch["by_step"][-1]["accuracy"]) < last["accuracy"]
    assert converged["by_step"][0]["accuracy"] > 0.9
    assert converged["by_step"][0]["step"] >= 100
    assert converged["converged"] is True


def test_from_scratch_every_task_has_parameters_of_its_own(xor):
    tasks = TaskSource("xor", Options(2, 5, 10)).sample_tasks(3, torch.Generator().manual_seed(1))
    loops = [meta_evaluation._fresh_loop(xor, 2) for _ in range(2)]
    first, again = (loop.begin(xor.parameters, tasks).parameter("layer1.weight") for loop in loops)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(loops[0].begin(xor.parameters, tasks).parameter("layer1.weight"), first)


def test_from_scratch_ends_where_it_stops_to_help_or_says_that_it_has_not(monkeypatch):
    learner = learner_of(trainer("sinusoid", hidden_sizes=(40, 40)))
    tasks = TaskSource("sinusoid", Options(2, 5, 10)).sample_tasks(4, torch.Generator().manual_seed(1))

    def learned():
        own = meta_evaluation._fresh(
            learner.network, torch.Generator().manual_seed(0), 4, torch.device("cpu")
        )
        steps, converged = meta_evaluation._until_converged(learner.network, own, tasks)
        outputs = learner.network(FastWeights.of_tasks(own), tasks.support_x)
        return steps, converged, float(task_losses(outputs, tasks.support_y).detach().mean())

    steps, converged, loss = learned()
    assert converged
    assert 200 < steps < 10_000
    assert loss < 0.01
    monkeypatch.setattr(meta_evaluation, "_MOST_STEPS", 50)
    assert learned()[:2] == (50, False)


def test_joint_training_has_the_schedule_and_the_shots_that_the_run_began_with(monkeypatch):
    maml = trainer(iterations=20, anneal_floor=0.0)
    for _ in range(20):
        maml.step()
    learner = learner_of(maml)
    assert learner.hyperparameters.outer_lr < 0.1 * learner.begun.outer_lr
    rates, rows = [], []
    sample, step = TaskSource.sample_tasks, torch.optim.Adam.step

    def noted_tasks(source, n, generator):
        tasks = sample(source, n, generator)
        rows.append(tasks.support_x.shape[1])
        return tasks

    def noted_step(optimizer):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer)

    monkeypatch.setattr(TaskSource, "sample_tasks", noted_tasks)
    monkeypatch.setattr(torch.optim.Adam, "step", noted_step)
    monkeypatch.setattr(meta_evaluation, "_MOST_STEPS", 0)
    evaluate_learner(learner, tasks=2, steps=1, shots=1)
    first = learner.begun.outer_lr
    assert rates == pytest.approx([first * (1 - done / 20) for done in range(20)])
    assert rows[-20:] == [4 * learner.hyperparameters.shots] * 20


def test_the_rate_of_late_steps_is_told_where_there_are_any(xor):
    assert xor.loop(10).rates_in_force() == {"inner_lr": 0.1}
    late = learner_of(trainer("sinusoid", eval_inner_lr=0.002, inner_steps=2))
    told = {"inner_lr": 0.01, "late_inner_lr": 0.002, "early_steps": 2}
    assert late.loop(3).rates_in_force() == told
    assert late.loop(2).rates_in_force() == late.loop(3, inner_lr=0.01).rates_in_force() == {"inner_lr": 0.01}
    (method,) = evaluate_learner(late, tasks=4, steps=3, baselines=False)["methods"]
    assert {name: method[name] for name in told} == told
    learned = learner_of(trainer(setup={"variant": "metasgd"}))
    assert learned.loop().rates_in_force() == {"inner_lr": None}


def test_the_evaluation_can_have_other_shots_and_tasks(xor):
    once, again = (evaluate_learner(xor, tasks=20, steps=2, baselines=False) for _ in range(2))
    assert once == again
    assert len(once["methods"]) == 1
    other = evaluate_learner(xor, tasks=20, steps=2, shots=1, seed=9, baselines=False)
    assert (other["shots"], other["seed"]) == (1, 9)
    assert other["methods"][0]["by_step"] != once["methods"][0]["by_step"]


def test_many_rows_are_adapted_to_in_smaller_parts(xor, monkeypatch):
    few = evaluate_learner(xor, tasks=12, steps=2, baselines=False)
    monkeypatch.setattr(adaptation, "_ROWS_AT_ONCE", 150)
    parts = evaluate_learner(xor, tasks=12, steps=2, baselines=False)
    for one, other in zip(few["methods"][0]["by_step"], parts["methods"][0]["by_step"], strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("task", ["xor", "trainers.tasks.xor:FourPoints"])
def test_a_jointly_trained_network_is_at_chance_on_xor(task):
    maml = trainer(task, hidden_sizes=(40, 40), meta_batch_size=25, outer_lr=3e-3)
    learner = learner_of(maml)
    said = []
    joint = train_jointly(learner, maml.training_tasks, 300, said.append)
    assert said == [f"joint training, {done} of 300 iterations" for done in (0, 100, 200)]
    tasks = maml.held_out_tasks.sample_tasks(300, torch.Generator().manual_seed(1))
    outputs = learner.network(learner.loop().begin(joint, tasks), tasks.query_x)
    accuracies = (outputs.argmax(-1) == tasks.query_y).float().mean(1)
    assert 0.45 <= float(accuracies.mean()) <= 0.55
