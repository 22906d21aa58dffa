"""Whole iterations on a device that is not the processor, against the same on the processor."""

import pytest
import torch
from maml_runs import trainer as maml_trainer
from ppo_runs import SMALL
from ppo_runs import trainer as ppo_trainer
from pretended_device import CPU, DEVICE, OnDevice, pretended_device

from trainers import load_learner, load_meta_policy, load_policy, meta_evaluation, meta_rl_evaluation
from trainers.declarations import make_settings
from trainers.few_shot import learner_of
from trainers.few_trajectories import MetaLearned
from trainers.hyperparameters import MAMLPPOHyperparameters, MAMLPPOSetup
from trainers.maml_ppo import MAMLPPO
from trainers.meta_evaluation import evaluate_learner
from trainers.meta_rl_evaluation import Update, evaluate_meta_policy
from trainers.trainer import TrainingError

CLOSE = {"rel": 2e-3, "abs": 2e-4}


@pytest.fixture
def transfers(monkeypatch):
    with pretended_device(monkeypatch) as counted:
        yield counted


def ppo(device, env="CartPole-v1", **values):
    small = {**SMALL, "epochs": 2, "eval_every": 2, "eval_episodes": 2}
    return ppo_trainer(env, device=device, **{**small, **values})


def ppo_of_images(device):
    return ppo_trainer("image_probe:Squares", device=device, frame_stack=2, vector="sync", **SMALL)


def maml(device, task="xor", variant="maml", **values):
    values = {"picture_every": 2, "eval_every": 2, **values}
    return maml_trainer(task, {"device": device, "variant": variant}, **values)


def maml_ppo(device, env="navigation", variant="maml-ppo", **values):
    h = {"meta_batch_size": 3, "trajectories_per_task": 4, "hidden_sizes": (8,), "epochs": 2}
    h |= {"eval_every": 2, "eval_tasks": 2, "eval_inner_steps": 1, "picture_every": 2, **values}
    vector = "sync" if ":" in env else "auto"
    setup = MAMLPPOSetup(env=env, device=device, variant=variant, vector=vector)
    return MAMLPPO(setup, make_settings(MAMLPPOHyperparameters, h))


RUNS = {
    "ppo": ppo,
    "ppo, normalised": lambda device: ppo(
        device, "Pendulum-v1", normalize_observations=True, normalize_rewards=True, target_kl=0.1
    ),
    "ppo, clipped values": lambda device: ppo(device, value_clip_epsilon=0.2, max_grad_norm=None),
    "ppo, images": ppo_of_images,
    "maml": maml,
    "maml, sinusoid": lambda device: maml(device, "sinusoid", inner_lr=0.01),
    "metasgd": lambda device: maml(device, variant="metasgd", multi_step_until=3),
    "fomaml": lambda device: maml(device, variant="fomaml"),
    "reptile": lambda device: maml(device, variant="reptile"),
    "anil": lambda device: maml(device, variant="anil"),
    "promp, navigation": lambda device: maml_ppo(device, variant="promp", max_grad_norm=0.5),
    "cartpole-family": lambda device: maml_ppo(device, "cartpole-family", target_kl=0.1),
    "a family of Gymnasium's": lambda device: maml_ppo(device, "task_probes:Corridor", inner_steps=2),
}


def timeless(metrics):
    return {key: value for key, value in metrics.items() if not key.startswith("time/")}


def check_iterations(make):
    """On the device they do the same as on the processor, and go on there from what was saved there."""
    here, there = make("cpu"), make("cuda")
    for _ in range(2):
        expected, done = here.step(), there.step()
        assert done.fault is expected.fault is None
        assert timeless(done.metrics) == pytest.approx(timeless(expected.metrics), **CLOSE)
        assert [one["type"] for one in done.pictures] == [one["type"] for one in expected.pictures]
    again = make("cuda")
    again.restore(there.state())
    assert timeless(again.step().metrics) == timeless(there.step().metrics)


@pytest.mark.parametrize("make", RUNS.values(), ids=RUNS.keys())
def test_iterations_on_a_device(make, transfers):
    check_iterations(make)
    assert transfers["read"] > 0 < transfers["written"]


def test_iterations_of_the_convolutional_network_on_a_device(transfers, tiny_omniglot):
    values = {"network": "conv", "filters": 4, "meta_batch_size": 2, "ways": 3, "shots": 1, "query_shots": 2}
    values |= {"eval_every": 2, "eval_tasks": 2, "picture_every": 2}
    check_iterations(
        lambda device: maml_trainer("omniglot", {"device": device, "data": str(tiny_omniglot)}, **values)
    )


def test_a_learner_is_measured_on_its_device(transfers, monkeypatch):
    monkeypatch.setattr(meta_evaluation, "_MOST_STEPS", 3)
    here, there = (
        evaluate_learner(learner_of(maml(device)), tasks=3, steps=1, baseline_iterations=1)["methods"]
        for device in ("cpu", "cuda")
    )
    assert [row for method in there for row in method["by_step"]] == [
        pytest.approx(row, **CLOSE) for method in here for row in method["by_step"]
    ]


def test_a_meta_policy_is_measured_on_its_device(transfers, monkeypatch):
    monkeypatch.setattr(meta_rl_evaluation, "UPDATES", (Update(0.3), Update(0.01, 2)))
    returns = []
    for device in ("cpu", "cuda"):
        one = maml_ppo(device, "task_probes:Corridor")
        one.step()
        h, steps = one.settings.values, one.state().numbers["steps"]
        learned = MetaLearned(one.setup, h, h, one.policy, one.parameters, steps, 1)
        methods = evaluate_meta_policy(learned, tasks=2, steps=1)["methods"]
        returns.append([row["return"] for method in methods for row in method["by_step"]])
    here, there = returns
    assert there == pytest.approx(here, **CLOSE)


@pytest.mark.parametrize("load", [load_policy, load_learner, load_meta_policy])
def test_what_is_loaded_onto_a_device_that_is_unknown_is_refused(load, tmp_path):
    with pytest.raises(TrainingError, match="device = tpu: must be cpu, cuda or cuda:N"):
        load(tmp_path, device="tpu")


def test_the_pretended_device_refuses_what_a_device_refuses(transfers):
    there = torch.ones(3, device=DEVICE)
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    with pytest.raises(TypeError, match="NumPy"):
        there.numpy()
    assert isinstance(there + torch.tensor(1.0), OnDevice)
    assert not transfers
    assert there.to(CPU).tolist() == [1, 1, 1]
    assert transfers == {"read": 1}
