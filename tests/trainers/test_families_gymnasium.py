"""A person's own environment class as a family: in this process and in others, and what is refused."""

import logging

import numpy as np
import psutil
import pytest
import torch

from trainers.envs.families import make_family
from trainers.envs.replay import EnvironmentFault
from trainers.trainer import TrainingError

CPU = torch.device("cpu")


@pytest.fixture
def make():
    made = []

    def make(name, vector="sync", **arguments):
        made.append(make_family(f"task_probes:{name}", arguments, vector=vector, device=CPU))
        return made[-1]

    yield make
    for family in made:
        family.close()


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def refusal(name, **arguments):
    with pytest.raises(TrainingError) as caught:
        make_family(f"task_probes:{name}", arguments, vector="sync", device=CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rollout(family, count=3, trajectories=2, seed=1):
    draw = generator(seed)
    tasks = family.sample_tasks(count, draw)
    seen = [family.reset(tasks, trajectories, draw)]
    for _ in range(family.horizon):
        if hasattr(family.action, "sizes"):
            actions = torch.randint(2, (count, trajectories, 1), generator=draw)
        else:
            actions = torch.randn(count, trajectories, family.action.size, generator=draw)
        seen += family.step(actions)
    return tasks, seen


def same(one, other):
    return all(torch.equal(mine, theirs) for mine, theirs in zip(one[1], other[1], strict=True))


def test_the_documented_example_runs(make):
    corridor = make("Corridor", length=3)
    assert corridor.horizon == 20
    tasks = corridor.sample_tasks(6, generator())
    assert set(tasks) == {-1, 1}
    corridor.reset(tasks, 2, generator())
    transitions = [corridor.step(torch.ones(6, 2, 1, dtype=torch.int64)) for _ in range(4)]
    ends = torch.tensor([float(task) for task in tasks]).unsqueeze(1)
    for place, transition in enumerate(transitions[:3], start=1):
        assert torch.allclose(transition.rewards, (ends * place / 3).expand(6, 2))
    assert transitions[2].terminated.all()
    assert transitions[3].rewards.eq(0).all()
    assert torch.equal(transitions[3].observations, transitions[2].observations)


def test_each_row_has_its_own_task_episode_and_action(make):
    family = make("Told")
    tasks = family.sample_tasks(3, generator())
    observations = family.reset(tasks, 2, generator())
    assert observations.dtype == torch.float32
    wanted = torch.tensor(np.array(tasks), dtype=torch.float32).unsqueeze(1).expand(3, 2)
    assert torch.equal(observations[..., 0], wanted)
    assert len(observations[..., 1].unique()) == 6
    actions = torch.arange(6.0).reshape(3, 2, 1) - 3
    transition = family.step(actions)
    assert torch.allclose(transition.rewards, wanted * actions.squeeze(-1).clamp(-2, 2))
    assert transition.observations[..., 2].eq(1).all()


def test_the_horizon_truncates_those_that_have_not_terminated(make):
    family = make("Told", max_episode_steps=4)
    _, seen = rollout(family)
    assert family.horizon == 4
    assert not seen[-5].any()
    assert seen[-1].all()
    _, seen = rollout(make("Told", length=4, max_episode_steps=4))
    assert seen[-2].all()
    assert not seen[-1].any()
    assert make("limited").horizon == 7
    assert make("Limited-v0", "async").horizon == 6
    assert make("Limited-v0", max_episode_steps=3).horizon == 3
    assert make("NoEnd", max_episode_steps=9).horizon == 9


def test_processes_give_the_same_numbers_and_rollouts_may_differ_in_size(make):
    here, elsewhere = make("Told", length=4), make("Told", "async", length=4)
    assert (here.kind, elsewhere.kind) == ("sync", "async")
    for count, trajectories in ((1, 1), (3, 3), (2, 1)):
        one, other = (rollout(family, count, trajectories, seed=count) for family in (here, elsewhere))
        assert one[0] == other[0]
        assert same(one, other)


@pytest.mark.parametrize("name", ["Told", "Corridor"])
def test_a_rollout_follows_from_its_generator_alone(make, name):
    family = make(name)
    first = rollout(family)
    rollout(family, seed=2)
    assert same(first, rollout(family))
    assert same(first, rollout(make(name)))
    assert not same(first, rollout(family, seed=2))


def test_processes_watch_for_the_trainers_end_import_no_torch_and_end_with_close(make):
    family = make("KnowsItsProcess", "async")
    pids = [process.pid for process in family._copies.processes]
    assert len(pids) >= 1
    family.reset(family.sample_tasks(4, generator()), 3, generator())
    assert family.step(torch.zeros(4, 3, 1)).rewards.eq(1).all()
    family.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_auto_measures(make, monkeypatch):
    from trainers.envs.families import gymnasium_tasks

    monkeypatch.setattr(gymnasium_tasks, "available_cores", lambda: 2)
    for seconds, kind in ((1e-3, "async"), (1e-7, "sync")):
        monkeypatch.setattr(gymnasium_tasks, "seconds_per_step", lambda _, seconds=seconds: seconds)
        assert make("Told", "auto").kind == kind


def test_tasks_that_no_seed_reaches_are_warned_of(make, caplog):
    with caplog.at_level(logging.WARNING):
        make("Told")
        assert not caplog.records
        make("Careless")
    assert "let it draw from self.np_random" in caplog.text


def test_tasks_are_described_in_numbers(make):
    family = make("Told")
    assert family.describe(np.float64(2)) == {"task": 2.0}
    assert family.describe(np.array([1.0, 2.0])) == {"task_0": 1.0, "task_1": 2.0}
    assert family.describe({"goal": 3, "name": "left"}) == {"goal": 3.0}
    assert family.describe("left") == {}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("NoTasks", {}, "it has no sample_tasks(n) and no set_task(task); a family's class has both"),
        ("NoSetTask", {}, "it has no set_task(task)"),
        ("TooFew", {}, "sample_tasks(2) gave 1 in a list: must be a sequence of 2 tasks"),
        ("OneNumber", {}, "sample_tasks(2) gave float: must be a sequence of 2 tasks"),
        ("NoDimensions", {}, "sample_tasks(2) gave ndarray: must be a sequence of 2 tasks"),
        ("Named", {}, "sample_tasks(2) gave 2 in a dict: must be a sequence of 2 tasks"),
        ("RaisesInSampling", {}, "sample_tasks(2) raised KeyError: 'no goals'"),
        ("Unpicklable", {}, "sample_tasks gave what can't be pickled"),
        ("NoEnd", {}, "set env_arg max_episode_steps=200, say, or an attribute max_episode_steps"),
        ("NegativeEnd", {}, "max_episode_steps=-3: must be a whole number of at least 1"),
        ("Told", {"max_episode_steps": 1.5}, "max_episode_steps=1.5: must be a whole number"),
        ("ReadsText", {}, "observation space Text(1, 3,"),
        ("Told", {"lenght": 1}, "task_probes:Told refuses: "),
        ("Tould", {}, "did you mean task_probes:Told"),
    ],
)
def test_what_is_no_family_is_refused_in_one_line(name, arguments, message):
    assert message in refusal(name, **arguments)


@pytest.mark.parametrize("vector", ["sync", "async"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", r"environment [45] raised RuntimeError at step 2 of its episode: the robot fell over"),
        ("set_task", r"environment [45] raised ValueError in set_task\(2\): unreachable goal"),
        ("reward", r"a reward of task 2, trajectory [01] is not finite at step 2"),
        ("observation", r"an observation of task 2, trajectory 0 is not finite at step 2"),
    ],
)
def test_what_an_environment_does_wrong_is_named(make, vector, how, message):
    family = make("Hostile", vector, how=how)
    with pytest.raises(EnvironmentFault, match=message):
        rollout(family)


def test_a_task_that_can_not_be_set_is_named_before_anything_is_measured(make):
    with pytest.raises(EnvironmentFault) as caught:
        make("Unsettable", "auto")
    assert str(caught.value) == (
        "env = task_probes:Unsettable: environment 0 raised ValueError in set_task(0): unreachable goal"
    )


def test_a_process_that_ends_is_named(make):
    with pytest.raises(EnvironmentFault, match=r"process \d of its copies ended \(exit code 7\) at step 2"):
        rollout(make("Hostile", "async", how="exit"))


def test_an_environment_that_only_its_process_cannot_make_is_refused():
    with pytest.raises(TrainingError, match="it can't be made in a process of its own"):
        make_family("task_probes:Homebound", {}, vector="async", device=CPU)


def test_an_action_that_is_not_finite_is_named(make):
    family = make("Told")
    family.reset(family.sample_tasks(2, generator()), 2, generator())
    actions = torch.zeros(2, 2, 1)
    actions[1, 0] = float("nan")
    with pytest.raises(EnvironmentFault, match="the action of task 1, trajectory 0 is not finite at step 1"):
        family.step(actions)
