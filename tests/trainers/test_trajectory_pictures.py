"""Pictures of a policy's adaptation: small, plain JSON, of what the policy really does, for free."""

import json

import pytest
import torch

from trainers.declarations import make_settings
from trainers.hyperparameters import MAMLPPOHyperparameters, MAMLPPOSetup
from trainers.maml_ppo import MAMLPPO

SMALL = {
    "meta_batch_size": 3,
    "trajectories_per_task": 4,
    "epochs": 1,
    "hidden_sizes": (8,),
    "eval_every": None,
    "picture_every": 1,
}


def trainer(env="navigation", **values):
    return MAMLPPO(MAMLPPOSetup(env=env), make_settings(MAMLPPOHyperparameters, {**SMALL, **values}))


def drawn(maml):
    (picture,) = maml.step().pictures
    return json.loads(json.dumps(picture))


def sampled(maml):
    """What the picture of the next call is made of."""
    generators = maml._generators("pictures")
    tasks = maml.family.sample_tasks(1, generators.tasks)
    return maml.adapt(tasks, maml.held_out_rates(), generators), maml.family.describe(tasks[0])


def places(digits, limits):
    left, right, bottom, top = limits
    numbers = [int(digits[at : at + 2], 16) / 255 for at in range(0, len(digits), 2)]
    return [
        (left + x * (right - left), bottom + y * (top - bottom))
        for x, y in zip(numbers[::2], numbers[1::2], strict=True)
    ]


def test_paths_lead_where_the_policy_goes():
    maml = trainer()
    picture = drawn(maml)
    data, task = sampled(maml)
    assert (picture["type"], picture["steps"]) == ("paths", 2)
    assert picture["goal"] == [pytest.approx(task[name], abs=1e-3) for name in ("goal_x", "goal_y")]
    left, right, bottom, top = picture["limits"]
    assert right - left == pytest.approx(top - bottom, rel=0.01)
    for step, stage in enumerate(picture["stages"]):
        walked = data[step].observations[0]
        assert stage["step"] == step
        assert stage["return"] == pytest.approx(float(data[step].returns.mean()), rel=0.01)
        path, ends = (places(stage[name], picture["limits"]) for name in ("path", "ends"))
        assert path[0] == pytest.approx((0, 0), abs=0.02)
        assert path[-1] == pytest.approx(walked[-1].mean(0).tolist(), abs=0.02)
        assert len(path) == 100
        for place, end in zip(ends, walked[-1].tolist(), strict=True):
            assert place == pytest.approx(end, abs=0.02)


def test_poles_stand_until_the_episode_ends():
    maml = trainer("cartpole-family")
    picture = drawn(maml)
    data, _ = sampled(maml)
    assert (picture["type"], picture["horizon"]) == ("poles", 200)
    for stage, trajectories in zip(picture["stages"], data, strict=True):
        length = int(trajectories.rewards[0, :, 0].sum())
        assert stage["length"] == length
        assert stage["moments"] == [*range(0, length - 1, 8), length - 1]
        states = trajectories.observations[0, stage["moments"], 0]
        for name, column in (("x", 0), ("theta", 2)):
            assert stage[name] == pytest.approx(states[:, column].tolist(), rel=0.01, abs=1e-6)
            assert max(map(abs, stage[name])) <= picture["track" if name == "x" else "angle"]


@pytest.mark.parametrize("env", ["navigation", "cartpole-family"])
@pytest.mark.parametrize(("steps", "shown"), [(0, [0]), (1, [0, 1]), (3, [0, 1, 2, 3]), (10, [0, 3, 7, 10])])
def test_many_steps_still_make_a_small_picture(env, steps, shown):
    picture = drawn(trainer(env, eval_inner_steps=steps, trajectories_per_task=30))
    assert [stage["step"] for stage in picture["stages"]] == shown
    assert picture["steps"] == steps
    assert len(json.dumps(picture)) <= 4096


def test_pictures_are_paced_and_change_nothing_of_training():
    maml, blind = trainer(picture_every=3), trainer(picture_every=None)
    rows = [maml.step() for _ in range(4)]
    assert [bool(row.pictures) for row in rows] == [True, False, True, False]
    assert rows[0].pictures[0]["goal"] == rows[2].pictures[0]["goal"]
    assert [blind.step().pictures for _ in range(4)] == [()] * 4
    for name, parameter in maml.parameters.items():
        assert torch.equal(parameter, blind.parameters[name])
    assert maml.state().numbers["generators"] == blind.state().numbers["generators"]


def test_other_environments_have_no_picture(tmp_path, monkeypatch):
    (tmp_path / "plain_family.py").write_text(
        "import gymnasium, numpy as np\n"
        "class Plain(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    max_episode_steps = 3\n"
        "    def sample_tasks(self, n): return self.np_random.choice([-1, 1], n)\n"
        "    def set_task(self, task): self.task = task\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        return np.zeros(1, np.float32), {}\n"
        "    def step(self, action):\n"
        "        return np.zeros(1, np.float32), float(self.task), False, False, {}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert trainer("plain_family:Plain").step().pictures == ()
