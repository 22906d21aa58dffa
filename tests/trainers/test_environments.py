"""Environments side by side: finding them, stepping, autoreset, faults."""

import logging
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from trainers.envs import making
from trainers.envs.making import make_environments
from trainers.envs.vectors import EnvironmentFault
from trainers.hyperparameters import PPOSetup
from trainers.trainer import TrainingError


def environments(env="CartPole-v1", num_envs=3, seed=1, kind="sync", frame_stack=1, **env_arg):
    setup = PPOSetup(env=env, env_arg=env_arg, frame_stack=frame_stack)
    return make_environments(setup, num_envs, seed, kind=kind)


def refusal(env, **env_arg):
    with pytest.raises(TrainingError) as caught:
        environments(env, **env_arg)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def step_often(envs):
    for _ in range(20):
        envs.step(np.zeros(envs.num_envs, np.int64))


def test_a_reset_gives_the_same_episodes_for_the_same_seed():
    first, second, other = environments(seed=5), environments(seed=5), environments(seed=6)
    observations = first.reset()
    assert observations.shape == (3, 4)
    assert observations.dtype == np.float32
    assert len(np.unique(observations[:, 0])) == 3
    np.testing.assert_array_equal(observations, second.reset())
    np.testing.assert_array_equal(observations, first.reset())
    assert (observations != other.reset()).all()
    np.testing.assert_array_equal(first.reset(seed=6), other.latest.observations)


@pytest.mark.parametrize("kind", ["native", "sync"])
def test_the_row_after_an_end_is_a_dummy_with_the_next_first_observation(kind):
    envs = environments(kind=kind, num_envs=4)
    envs.reset()
    ended = np.zeros(4, bool)
    seen = 0
    for _ in range(60):
        step = envs.step(np.ones(4, np.int64))
        assert step.rewards.dtype == np.float64
        assert (step.rewards == np.where(ended, 0, 1)).all()
        assert not step.terminated[ended].any()
        assert (np.abs(step.observations[ended]) <= 0.05).all()
        seen += ended.sum()
        ended = step.terminated | step.truncated
        assert (np.abs(step.observations[ended, 2]) > 0.2).all(), "the final observation of the episode"
    assert seen > 8


def test_truncation_stays_apart_from_termination():
    envs = environments("probes:CutOff", num_envs=1)
    envs.reset()
    steps = [envs.step(np.zeros(1, np.int64)) for _ in range(12)]
    assert [bool(step.truncated[0]) for step in steps] == [False] * 4 + [True] + [False] * 5 + [True, False]
    assert not any(step.terminated[0] for step in steps)


def test_steps_belong_to_the_caller():
    envs = environments(num_envs=2)
    first = envs.reset()
    kept = first.copy()
    envs.step(np.ones(2, np.int64))
    np.testing.assert_array_equal(first, kept)


def test_an_action_that_is_not_a_number_is_a_fault():
    envs = environments("probes:RightPosition", num_envs=2)
    envs.reset()
    with pytest.raises(EnvironmentFault, match="action for environment 1 is not finite"):
        envs.step(np.array([[0.0], [np.nan]], np.float32))


def test_multidiscrete_actions():
    envs = environments("probes:RightTwoActions", num_envs=2)
    envs.reset()
    assert set(envs.step(np.array([[0, 2], [1, 2]])).rewards) <= {0.5, 1.0}


def test_stacked_frames():
    envs = environments(frame_stack=3, kind=None)
    assert envs.kind == "sync", "the native class can't stack"
    assert envs.observation_space.shape == (3, 4)
    first = envs.reset()
    after = envs.step(np.ones(3, np.int64)).observations
    np.testing.assert_array_equal(first[:, 1:], after[:, :2])


def test_sync_and_async_give_the_same_numbers():
    rng = np.random.default_rng(0)
    with environments(num_envs=2) as here, environments(num_envs=2, kind="async") as there:
        np.testing.assert_array_equal(here.reset(), there.reset())
        for _ in range(80):
            actions = rng.integers(0, 2, 2)
            for one, other in zip(here.step(actions), there.step(actions), strict=True):
                np.testing.assert_array_equal(one, other)


def test_reward_threshold_is_the_specification_s():
    assert environments().reward_threshold == 475
    assert environments("probes:AlwaysOne").reward_threshold is None


def test_auto_takes_the_native_class_where_there_is_one_and_measures_otherwise(monkeypatch):
    assert environments(kind=None).kind == "native"
    assert environments("Acrobot-v1", kind=None).kind == "sync"
    monkeypatch.setattr(making, "available_cores", lambda: 1)
    assert environments("probes:Slow", kind=None).kind == "sync"
    monkeypatch.setattr(making, "available_cores", lambda: 2)
    with environments("probes:Slow", kind=None) as slow:
        assert slow.kind == "async"


def test_native_where_there_is_none_is_refused():
    with pytest.raises(TrainingError, match=r"vector = native.*Acrobot-v1 does not exist.*use auto"):
        environments("Acrobot-v1", kind="native")
    with pytest.raises(TrainingError, match="can't stack frames"):
        environments(kind="native", frame_stack=2)


def test_environment_arguments_reach_the_environment():
    for kind in ("sync", "native"):
        envs = environments(kind=kind, sutton_barto_reward=True)
        envs.reset()
        assert envs.step(np.zeros(3, np.int64)).rewards.tolist() == [0, 0, 0]
    envs = environments("probes:Raises", at=2)
    envs.reset()
    envs.step(np.zeros(3, np.int64))
    with pytest.raises(EnvironmentFault):
        envs.step(np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("env", "env_arg", "said"),
    [
        ("CartPol-v1", {}, "env = CartPol-v1: no such Gymnasium environment; did you mean CartPole-v1?"),
        ("cartpole-v9", {}, "did you mean CartPole-v1?"),
        ("Cheetah", {}, "HalfCheetah-v5"),
        ("qqqqqq", {}, "name an id or package.module:Class"),
        ("ALE/Pong-v5", {}, "pip install ale-py, then ale_py:ALE/Pong-v5"),
        ("no_such_module:Env", {}, "env = no_such_module:Env: no module named no_such_module"),
        ("probes:Raise", {}, "probes has no Raise and registers no such id; did you mean probes:Raises"),
        ("tests/probes.py:Raises", {}, "write package.module:Class, without .py"),
        ("probes:Greets", {}, "Greets is a type; name a subclass of gymnasium.Env"),
        ("probes:NUMBER", {}, "NUMBER is a int"),
        ("probes:greet", {}, "it makes a Greets"),
        ("probes:Raises", {"att": 3}, "env_arg = att=3: probes:Raises refuses: "),
        ("probes:Raises", {"att": 3}, "unexpected keyword argument 'att'; it takes at"),
        ("CartPole-v1", {"gravity": 3}, "argument 'gravity'; it takes sutton_barto_reward, render_mode"),
        ("phys2d/Pendulum-v0", {}, "env = phys2d/Pendulum-v0: it needs the module jax"),
        (
            "FrozenLake-v1",
            {},
            "observation space Discrete(16) is not supported; it must be a Box of any shape",
        ),
        ("probes:Nothing", {}, "env = probes:Nothing: observation space Box("),
        ("probes:Nothing", {}, "is not supported; its shape (0,) holds nothing"),
        ("probes:NoAction", {}, "is not supported; its shape (2, 0) holds nothing"),
        (
            "probes:TupleAction",
            {},
            "action space Tuple(Discrete(2), Discrete(2)) is not supported; it must be",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(env, env_arg, said):
    assert said in refusal(env, **env_arg)


@pytest.mark.parametrize(
    ("env", "package", "extra"), [("LunarLander-v3", "Box2D", "box2d"), ("Ant-v5", "mujoco", "mujoco")]
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(hide_package, env, package, extra):
    hide_package(package, f"gymnasium.envs.{extra}")
    assert f'pip install "gymnasium[{extra}]"' in refusal(env)


def test_a_module_that_fails_to_import(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_env.py").write_text("import no_such_thing\n")
    (tmp_path / "torn_env.py").write_text("1/0\n")
    assert "broken_env needs the module no_such_thing" in refusal("broken_env:Env")
    assert "importing torn_env failed: ZeroDivisionError" in refusal("torn_env:Env")


def test_an_id_registered_by_a_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "registering.py").write_text(
        "import gymnasium\ngymnasium.register('Own/Probe-v3', 'probes:AlwaysOne', reward_threshold=1)\n"
    )
    try:
        envs = environments("registering:Own/Probe-v3")
        assert envs.reward_threshold == 1
        assert envs.reset().shape == (3, 1)
        assert environments("registering:Own/Probe").name == "registering:Own/Probe"
    finally:
        gymnasium.registry.pop("Own/Probe-v3", None)


def test_an_old_version_is_logged_without_escapes(caplog):
    with caplog.at_level(logging.WARNING):
        environments("CartPole-v0")
    assert "out of date; the latest is CartPole-v1" in caplog.text
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_environment_that_raises_keeps_its_name_message_and_traceback(kind):
    with environments("probes:Raises", kind=kind, num_envs=2) as envs:
        envs.reset()
        for _ in range(4):
            envs.step(np.zeros(2, np.int64))
        with pytest.raises(EnvironmentFault) as caught:
            envs.step(np.zeros(2, np.int64))
    assert "env = probes:Raises: environment" in str(caught.value)
    assert "raised ZeroDivisionError at step 5 of its episode: the cart left the universe" in str(
        caught.value
    )
    if kind == "sync":
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    else:
        assert "probes.py" in "".join(caught.value.__notes__)


def test_an_exception_that_does_not_pickle_does_not_hang():
    with environments("probes:RaisesUnpicklable", kind="async", num_envs=2) as envs:
        envs.reset()
        with pytest.raises(EnvironmentFault, match="raised UnpicklableError at step 1"):
            envs.step(np.zeros(2, np.int64))


def test_a_process_that_ends_does_not_hang():
    with environments("probes:Exits", kind="async", num_envs=2) as envs:
        envs.reset()
        with pytest.raises(EnvironmentFault, match=r"environment 0's process ended \(exit code 9\) at step"):
            step_often(envs)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ("probes:NaNReward", "env = probes:NaNReward: environment 0 gave a reward of nan at step 4"),
        ("probes:InfiniteObservation", "gave an observation whose component 0 is inf at step 3"),
        ("probes:WrongShape", r"raised ValueError at step 2 .* shape \(3,\), but its space says \(1,\)"),
    ],
)
def test_numbers_that_cannot_be_trained_on_are_faults(env, said):
    envs = environments(env)
    envs.reset()
    with pytest.raises(EnvironmentFault, match=said):
        step_often(envs)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("observation", "gave an observation whose component 0 is 1e+60 at step 20, more than float32 holds"),
        ("reward", r"gave a reward of 1e\+200 at step 20, more than float32 holds"),
    ],
)
def test_numbers_that_networks_cannot_hold_are_faults(what, said):
    envs = environments("probes:Beyond", what=what)
    envs.reset()
    with pytest.raises(EnvironmentFault, match=said.replace("1e+60", r"1e\+60")):
        step_often(envs)
    assert np.isfinite(envs.latest.observations.astype(np.float32)).all()


def test_subclasses_of_spaces_are_spaces():
    envs = environments("probes:OwnSpaces", frame_stack=2)
    assert envs.reset().shape == (3, 2, 1)
    step_often(envs)


def test_processes_are_limited_and_other_kinds_are_not():
    setup = PPOSetup()
    with make_environments(setup, 9, 1, kind="async", most_processes=2) as limited:
        assert limited.num_envs == 2
    for kind in ("sync", "native"):
        assert make_environments(setup, 9, 1, kind=kind, most_processes=2).num_envs == 9


def test_a_reset_that_raises_is_a_fault():
    with pytest.raises(EnvironmentFault, match=r"raised FileNotFoundError in reset: level\.dat"):
        environments("probes:RaisesAtReset").reset()


def test_environments_are_imported_without_torch():
    code = "import sys, trainers.envs.making; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
