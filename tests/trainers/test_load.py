"""A trained policy, read back from its run folder."""

import hashlib
import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from trainers import load_policy
from trainers.declarations import as_json, make_settings
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO
from trainers.trainer import TrainingError

SMALL = {"num_envs": 4, "rollout_steps": 16, "minibatch_size": 32, "hidden_sizes": (16,), "eval_every": None}


def write_checkpoint(run, ppo):
    """In the layout of a run folder."""
    folder, state = run / "checkpoints" / f"{ppo.iteration:08d}", ppo.state()
    folder.mkdir(parents=True)
    save_file(state.weights, folder / "weights.safetensors")
    (folder / "state.json").write_text(json.dumps(state.numbers))
    files = {
        name: {"sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        for name in ("weights.safetensors", "state.json")
    }
    (folder / "manifest.json").write_text(json.dumps({"iteration": ppo.iteration, "files": files}))
    return folder


def write_run(run, env="CartPole-v1", iterations=2, **values):
    setup, h = PPOSetup(env=env), make_settings(PPOHyperparameters, {**SMALL, **values})
    run.mkdir()
    config = {"trainer": "ppo", "setup": as_json(setup), "hyperparameters": as_json(h)}
    (run / "run.json").write_text(json.dumps(config))
    ppo = PPO(setup, h)
    for _ in range(iterations):
        ppo.step()
        write_checkpoint(run, ppo)
    return ppo


def test_the_newest_checkpoints_greedy_actions(tmp_path):
    ppo = write_run(tmp_path / "run")
    policy = load_policy(tmp_path / "run")
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    expected = ppo.policy.greedy(torch.from_numpy(observations)).squeeze(-1).numpy()
    np.testing.assert_array_equal(policy(observations), expected)
    assert [int(policy(observation)) for observation in observations] == expected.tolist()
    assert policy.iteration == 2
    assert policy(observations[0]) in gymnasium.spaces.Discrete(2)
    assert {int(policy(observations[0], deterministic=False)) for _ in range(50)} == {0, 1}


def test_the_normaliser_comes_along_and_box_actions_stay_in_bounds(tmp_path):
    ppo = write_run(tmp_path / "run", "Pendulum-v1", normalize_observations=True, normalize_rewards=True)
    with torch.no_grad():
        ppo.policy.actor[-1].bias.fill_(7)
    ppo._iteration = 3
    write_checkpoint(tmp_path / "run", ppo)
    policy = load_policy(str(tmp_path / "run"))
    assert torch.equal(policy.network.normalizer.mean, ppo.policy.normalizer.mean)
    observation = np.array([1, 0, 8], np.float32)
    assert policy(observation).tolist() == [2.0]
    before = policy.network.normalizer.count.clone()
    assert policy.evaluate(3).returns.shape == (3,)
    assert policy.network.normalizer.count == before
    earlier = load_policy(tmp_path / "run", at=2)(observation)
    assert earlier.dtype == np.float32
    assert abs(earlier[0]) < 1


def test_an_earlier_checkpoint_by_iteration_or_by_its_folder(tmp_path):
    write_run(tmp_path / "run", iterations=3)
    assert load_policy(tmp_path / "run", at=2).iteration == 2
    assert load_policy(tmp_path / "run" / "checkpoints" / "00000001").iteration == 1


def test_a_checkpoints_folder_may_be_called_anything_and_be_the_working_folder(tmp_path, monkeypatch):
    write_run(tmp_path / "run", iterations=3)
    kept = (tmp_path / "run" / "checkpoints" / "00000002").rename(tmp_path / "run" / "checkpoints" / "kept")
    assert load_policy(kept).iteration == 2
    monkeypatch.chdir(kept)
    assert load_policy(".").iteration == 2
    monkeypatch.chdir(tmp_path / "run" / "checkpoints")
    assert load_policy("..").iteration == 3


def test_actions_are_counted_from_the_spaces_start(tmp_path):
    write_run(tmp_path / "run", "probes:Counted")
    policy = load_policy(tmp_path / "run")
    drawn = policy(np.zeros((200, 1), np.float32), deterministic=False)
    assert set(drawn.tolist()) == {-2, -1, 0, 1, 2}
    assert policy(np.zeros(1, np.float32)) in gymnasium.spaces.Discrete(5, start=-2)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    write_run(tmp_path / "run")
    weights = tmp_path / "run" / "checkpoints" / "00000002" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert load_policy(tmp_path / "run").iteration == 1
    with pytest.raises(TrainingError, match=r"checkpoint 00000002 is damaged \(weights.safetensors does not"):
        load_policy(weights.parent)


def test_what_cannot_be_loaded_is_said(tmp_path):
    with pytest.raises(TrainingError, match="not the folder of a run"):
        load_policy(tmp_path)
    write_run(tmp_path / "run", iterations=0)
    with pytest.raises(TrainingError, match="no policy to load: no checkpoint yet"):
        load_policy(tmp_path / "run")
    write_run(tmp_path / "other", iterations=1)
    with pytest.raises(ValueError, match=r"observation of shape \(3,\): must be \(4,\)"):
        load_policy(tmp_path / "other")(np.zeros(3))


def test_importing_the_package_does_not_import_torch():
    code = (
        "import sys, trainers, trainers.presets, trainers.hyperparameters, trainers.metrics\n"
        "assert not {'torch', 'gymnasium'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
