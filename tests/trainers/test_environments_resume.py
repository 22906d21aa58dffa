"""Environments saved in one place and continued in another: bit for bit, or a reason why not."""

import json
import subprocess
import sys

import numpy as np
import pytest

from trainers.envs import replay
from trainers.envs.making import make_environments
from trainers.envs.vectors import EnvironmentFault
from trainers.hyperparameters import PPOSetup

TOTAL = 300


def make(env, kind, frame_stack=1, num_envs=3, **env_arg):
    setup = PPOSetup(env=env, env_arg=env_arg, frame_stack=frame_stack)
    return make_environments(setup, num_envs, 1, kind=kind)


def actions_for(envs, seed=3):
    rng = np.random.default_rng(seed)
    space, n = envs.action_space, envs.num_envs
    if hasattr(space, "n"):
        return [rng.integers(0, space.n, n) for _ in range(TOTAL)]
    return [rng.normal(0, 2, (n, *space.shape)).astype(np.float32) for _ in range(TOTAL)]


def through_disk(state):
    tensors, numbers = state
    return {name: array.copy() for name, array in tensors.items()}, json.loads(json.dumps(numbers))


def assert_same(step, other):
    for one, another in zip(step, other, strict=True):
        assert one.dtype == another.dtype
        assert one.tobytes() == another.tobytes()


def run_with_cuts(envs, actions, cuts):
    """All steps, and the state after each number of steps in ``cuts``."""
    envs.reset()
    steps, states = [envs.latest], {}
    for number, action in enumerate(actions, start=1):
        steps.append(envs.step(action))
        if number in cuts:
            states[number] = through_disk(envs.state())
    return steps, states


@pytest.mark.parametrize(
    ("env", "kind", "frame_stack"),
    [
        ("CartPole-v1", "native", 1),
        ("CartPole-v1", "sync", 1),
        ("CartPole-v1", "async", 1),
        ("CartPole-v1", "sync", 4),
        ("Pendulum-v1", "sync", 1),
        ("Acrobot-v1", "sync", 1),
        ("MountainCarContinuous-v0", "sync", 1),
        ("probes:MutatesItsAction", "sync", 1),
        ("probes:SamplesItsSpace", "sync", 1),
        ("probes:SamplesItsSpace", "async", 1),
        ("probes:RightTwoActions", "sync", 1),
    ],
)
def test_a_continuation_is_bit_for_bit_the_same(env, kind, frame_stack):
    with make(env, kind, frame_stack) as whole, make(env, kind, frame_stack) as resumed:
        if env == "probes:RightTwoActions":
            actions = [np.array([[1, 2], [0, 2], [t % 2, t % 3]]) for t in range(TOTAL)]
        else:
            actions = actions_for(whole)
        cuts = {1, 2, *np.random.default_rng(7).integers(3, TOTAL, 6).tolist()}
        steps, states = run_with_cuts(whole, actions, cuts)
        # Not in order, so that a restore never finds the environments as they should be.
        for cut in sorted(states, key=lambda cut: cut % 7):
            assert resumed.restore(*states[cut]) is None
            assert_same(resumed.latest, steps[cut])
            for number in range(cut, min(cut + 60, TOTAL)):
                assert_same(resumed.step(actions[number]), steps[number + 1])


@pytest.mark.parametrize("kind", ["native", "sync", "async"])
def test_an_episode_that_has_just_ended_resets_on_the_next_step(kind):
    with make("CartPole-v1", kind) as whole, make("CartPole-v1", kind) as resumed:
        whole.reset()
        resumed.reset()
        push = np.array([1, 1, 0])
        while not (step := whole.step(push)).terminated.any():
            pass
        state = through_disk(whole.state())
        for _ in range(step.terminated.argmax() + 4):
            resumed.step(push)  # now some environment waits for a reset that the state does not have
        assert resumed.restore(*state) is None
        assert_same(resumed.latest, step)
        after = whole.step(push)
        assert_same(resumed.step(push), after)
        assert (after.rewards == np.where(step.terminated, 0, 1)).all()


def test_a_state_right_after_the_reset_and_one_taken_after_a_restore():
    whole, resumed, again = (make("Pendulum-v1", "sync") for _ in range(3))
    whole.reset(seed=77)
    assert resumed.restore(*through_disk(whole.state())) is None
    assert_same(resumed.latest, whole.latest)
    for action in actions_for(whole)[:205]:
        expected = whole.step(action)
        assert_same(resumed.step(action), expected)
    first, second = whole.state(), resumed.state()
    assert first[1] == second[1]
    assert again.restore(*through_disk(second)) is None
    assert_same(again.latest, expected)


def test_sync_continues_what_async_began():
    with make("CartPole-v1", "async") as there, make("CartPole-v1", "sync") as here:
        actions = actions_for(there)
        steps, states = run_with_cuts(there, actions, {123})
        assert here.restore(*states[123]) is None
        for number in range(123, TOTAL):
            assert_same(here.step(actions[number]), steps[number + 1])


CONTINUE = """
import json, sys
import numpy as np
from trainers.envs.making import make_environments
from trainers.hyperparameters import PPOSetup
saved = np.load(sys.argv[1], allow_pickle=False)
envs = make_environments(PPOSetup(env="Acrobot-v1"), 3, 1, kind="sync")
tensors = {name: saved[name] for name in saved.files if name != "future"}
assert envs.restore(tensors, json.loads(sys.argv[2])) is None
for action in saved["future"]:
    step = envs.step(action)
sys.stdout.write(b"".join(array.tobytes() for array in step).hex())
"""


def test_a_new_process_continues_the_same(tmp_path):
    envs = make("Acrobot-v1", "sync")
    actions = actions_for(envs)
    steps, states = run_with_cuts(envs, actions, {151})
    tensors, numbers = states[151]
    np.savez(tmp_path / "state.npz", future=np.array(actions[151:]), **tensors)
    command = [sys.executable, "-c", CONTINUE, str(tmp_path / "state.npz"), json.dumps(numbers)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found == b"".join(array.tobytes() for array in steps[-1]).hex()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_environment_that_cannot_be_repeated_is_flagged(kind):
    with make("probes:Unrepeatable", kind) as whole, make("probes:Unrepeatable", kind) as resumed:
        whole.reset()
        for action in actions_for(whole)[:5]:
            whole.step(action)
        reason = resumed.restore(*through_disk(whole.state()))
        assert resumed.continued.all(), "the same number of steps into the episode"
        assert reason == (
            "resumed, not exact: env = probes:Unrepeatable: environment 0 gave other observations, rewards "
            "or ends when its episode was replayed (and 2 more)"
        )
        resumed.step(actions_for(whole)[5])


def test_an_environment_that_was_changed_in_between_is_flagged():
    # The same environment by name and arguments: what its file says was changed.
    whole, resumed = make("probes:Raises", "sync", at=30), make("probes:Raises", "sync", at=4)
    whole.reset()
    for action in actions_for(whole)[:5]:
        whole.step(action)
    tensors, numbers = through_disk(whole.state())
    reason = resumed.restore(tensors, {**numbers, "made_of": dict(resumed.made_of)})
    assert reason.startswith("resumed, not exact: env = probes:Raises: environment 0 could not be replayed")
    assert "ZeroDivisionError" in reason
    assert not resumed.continued.any()
    resumed.step(actions_for(whole)[5])
    with pytest.raises(EnvironmentFault, match="at step 4 of its episode"):
        [resumed.step(action) for action in actions_for(whole)]


def test_too_long_an_episode_begins_anew(monkeypatch):
    monkeypatch.setattr(replay, "LONGEST_REPLAY", 50)
    whole, resumed = make("probes:Endless", "sync"), make("probes:Endless", "sync")
    actions = actions_for(whole)
    _, states = run_with_cuts(whole, actions, {50, 51})
    assert states[51][0]["lengths"].tolist() == [0, 0, 0]
    assert resumed.restore(*states[50]) is None
    assert resumed.continued.all()
    reason = resumed.restore(*states[51])
    assert "environment 0 had an episode of more than 50 steps and begins a new one" in reason
    assert not resumed.continued.any()
    assert not resumed.step(actions[0]).terminated.any()


def test_other_environments_than_the_state_s_begin_new_episodes():
    whole = make("CartPole-v1", "native")
    whole.reset()
    more = make("CartPole-v1", "native", num_envs=5)
    reason = more.restore(*through_disk(whole.state()))
    assert reason == (
        "resumed, not exact: 5 environments (native) begin new episodes, because the state is of 3 (native)"
    )
    assert more.latest.observations.shape == (5, 4)
    assert more.continued.tolist() == [False] * 5
    same = make("CartPole-v1", "sync")
    assert "begin new episodes" in same.restore(*through_disk(whole.state()))
    assert not same.continued.any()


def test_the_state_is_compact():
    envs = make("Acrobot-v1", "sync")
    _, states = run_with_cuts(envs, actions_for(envs), {300})
    tensors, numbers = states[300]
    assert tensors["actions"].dtype == np.uint8
    assert len(tensors["actions"]) == 3 * 300
    assert len(json.dumps(numbers)) < 1000
