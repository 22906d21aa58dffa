"""Processes of environments: they end with the trainer, and only then."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from trainers.envs.making import make_environments
from trainers.hyperparameters import PPOSetup

TRAINER = """
import os, sys, time
import numpy as np
from trainers.envs.making import make_environments
from trainers.hyperparameters import PPOSetup
held = open(sys.argv[3], "w")
envs = make_environments(PPOSetup(env=sys.argv[1]), 2, 1, kind="async")
envs.reset()
def go_on(*_):
    for _ in range(50):
        envs.step(np.ones(2, np.int64))
    print("went on", flush=True)
    if sys.argv[2] == "close":
        envs.close()
    sys.exit(0)
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, go_on)
print(*(process.pid for process in envs._vector.processes), flush=True)
if sys.argv[2] == "step":
    while True:
        envs.step(np.ones(2, np.int64))
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def start(env="CartPole-v1", then="sleep"):
        here = Path(__file__).parent
        path = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
        trainer = subprocess.Popen(
            [sys.executable, "-c", TRAINER, env, then, str(tmp_path / "held")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
        started.append(trainer)
        line = trainer.stdout.readline()
        assert line, trainer.stderr.read()
        return trainer, [int(word) for word in line.split()]

    yield start
    for trainer in started:
        trainer.kill()
        trainer.communicate()


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ended(pids, seconds=5):
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("then", ["sleep", "step"])
def test_they_die_when_the_trainer_is_killed(start, then):
    trainer, pids = start(then=then)
    server = {psutil.Process(pid).ppid() for pid in pids}
    assert all(alive(pid) for pid in pids)
    trainer.kill()
    assert ended([*pids, *server])


def test_they_die_in_the_middle_of_a_long_step_when_the_trainer_is_killed(start):
    trainer, pids = start("probes:Stuck", "step")
    time.sleep(0.1)
    trainer.kill()
    assert ended(pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("then", ["close", "leave"])
def test_a_signal_to_the_group_lets_the_trainer_finish(start, number, then):
    trainer, pids = start(then=then)
    os.killpg(trainer.pid, number)
    out, err = trainer.communicate(timeout=10)
    assert out == "went on\n", err
    assert (trainer.returncode, err) == (0, "")
    assert ended(pids)


def test_they_hold_no_file_of_the_trainer(start, tmp_path):
    trainer, pids = start()
    held = str(tmp_path / "held")
    assert held in [file.path for file in psutil.Process(trainer.pid).open_files()]
    for pid in pids:
        assert held not in [file.path for file in psutil.Process(pid).open_files()]


def test_they_end_with_close_and_with_the_last_reference():
    setup = PPOSetup()
    closed, dropped = (make_environments(setup, 2, 1, kind="async") for _ in range(2))
    pids = [[child.pid for child in envs._vector.processes] for envs in (closed, dropped)]
    closed.close()
    assert ended(pids[0])
    assert all(alive(pid) for pid in pids[1])
    del dropped
    gc.collect()
    assert ended(pids[1])
