"""Two screens and a script at once, two workers for one run, and locks whose holders were killed."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from itertools import pairwise

import psutil
from victims import SAVE_ALWAYS, Figure, MakeRun, Times, records, wait_until
from warm_parent import WarmParent

from metarl_tui.app.follow import Follower
from metarl_tui.app.outbox import Outbox
from metarl_tui.runs.folder import RunFolder, acquire_lock
from metarl_tui.runs.liveness import observe, read_worker
from metarl_tui.runs.records import Record
from metarl_tui.runs.requests import Request, send, wait_for


class _Screen(threading.Thread):
    """What a screen does with requests: sends by its outbox, learns of the answers from its tape."""

    def __init__(self, run: RunFolder, count: int, seed: int) -> None:
        super().__init__()
        self.run_folder, self.count = run, count
        self.random = random.Random(seed)
        self.asked: list[str] = []
        self.replies: list[str] = []

    def run(self) -> None:
        follower = Follower(self.run_folder, self.run_folder.config)
        outbox = Outbox(self.run_folder)
        end = time.monotonic() + 120
        while (len(self.asked) < self.count or outbox.sent) and time.monotonic() < end:
            if len(self.asked) < self.count:
                outbox.ask("set", {"gamma": round(self.random.uniform(0.9, 1.0), 6)})
                self.asked.append(outbox.sent[-1].id)
            follower.take(follower.look())
            self.replies += [reply.text for reply in outbox.answers(follower.tape)]
            time.sleep(0.001)


class _Script(threading.Thread):
    """Sends all at once; then asks what became of each."""

    def __init__(self, run: RunFolder, count: int) -> None:
        super().__init__()
        self.run_folder, self.count = run, count
        self.sent: list[Request] = []
        self.answers: list[Record | None] = []

    def run(self) -> None:
        for number in range(self.count):
            # Every tenth is not allowed.
            value = 2.0 if number % 10 == 9 else 0.001 + number / 1e6
            self.sent.append(
                send(self.run_folder, "set", {"entropy_coef": value, "gae_lambda": min(value, 2)})
            )
        self.answers = [wait_for(self.run_folder, request, 120) for request in self.sent]


def test_two_screens_and_a_script_at_once(
    make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure
) -> None:
    run = make_run(endless=True, options={"pace": 100})
    worker = warm.start("train", str(run.path))
    wait_until(lambda: observe(run).state == "running")
    count = times(1000)
    screens = [_Screen(run, count // 4, seed) for seed in range(2)]
    script = _Script(run, count - 2 * (count // 4))
    senders = [*screens, script]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    worker.signal(signal.SIGTERM)
    worker.wait()
    controls = [record for record in records(run, "control") if record["request"]]
    answered = [record["request"] for record in controls]
    asked = [one for screen in screens for one in screen.asked] + [request.id for request in script.sent]
    in_turn = all(
        pair[0] == before
        for name in ("gamma", "entropy_coef", "gae_lambda")
        for before, pair in _followed(controls, name)
    )
    told = sum(len(screen.replies) for screen in screens) + sum(
        answer is not None for answer in script.answers
    )
    order = [answered.index(request.id) for request in script.sent]
    refused = sum(record["result"] == "rejected" for record in controls)
    figure(
        "requests of two screens and a script at once", len(asked),
        f"{len(set(answered) & set(asked))} answered once, in one order, {told} senders told, "
        f"{refused} of them of a refusal",
    )  # fmt: skip
    assert sorted(answered) == sorted(asked)
    assert told == len(asked) == count
    assert refused == script.count // 10
    assert order == sorted(order)
    assert in_turn
    assert not any(run.requests.iterdir())


def _worker_pid(run: RunFolder) -> int | None:
    worker = read_worker(run)
    return worker.identity.pid if worker else None


def _followed(controls: list[Record], name: str) -> list[tuple[object, list[object]]]:
    """Of each applied change of ``name``: the value that the one before left, and the pair [old, new]."""
    pairs = [record["changes"][name] for record in controls if name in record["changes"]]
    return [(before[1], pair) for before, pair in pairwise(pairs)]


def test_two_workers_for_one_run(make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure) -> None:
    count, one_winner, named = times(200), 0, 0
    run = make_run(endless=True)
    for _ in range(count):
        workers = [warm.start("train", str(run.path)) for _ in range(2)]
        wait_until(lambda workers=workers: any(one.poll() is not None for one in workers), pause=0.003)
        (loser,) = [one for one in workers if one.poll() is not None]
        (winner,) = [one for one in workers if one is not loser]
        named += "is being trained by" in warm.output(loser)
        time.sleep(0.005)
        one_winner += loser.poll() == 2 and winner.poll() is None
        winner.kill()
    numbers = [record["seq"] for record in records(run)]
    figure(
        "two workers started on one run", count,
        f"{one_winner} of {count} times exactly one won, {named} times the other said who trains it",
    )  # fmt: skip
    assert one_winner == named == count
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_lock_of_a_worker_that_was_killed(
    make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure
) -> None:
    """Free at once, also while processes of its environments live on (they are held, so they can't end)."""
    count = times(100)
    free = with_environments = 0
    alone = make_run(endless=True)
    crowded = make_run(endless=True, setup={"vector": "async"}, num_envs=2, eval_every=None)
    for turn in range(count):
        run = crowded if turn % 10 == 0 else alone
        worker = warm.start("train", str(run.path), patches=SAVE_ALWAYS)
        held: list[psutil.Process] = []
        wait_until(
            lambda run=run, worker=worker: (found := read_worker(run)) and found.identity.pid == worker.pid
        )
        if run is crowded:
            wait_until(lambda run=run: observe(run).state == "running")
            held = psutil.Process(worker.pid).children(recursive=True)
            for process in held:
                process.send_signal(signal.SIGSTOP)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        with_environments += bool(held) and all(process.is_running() for process in held)
        with acquire_lock(run):
            free += 1
        for process in held:
            process.send_signal(signal.SIGCONT)
        _, alive = psutil.wait_procs(held, 10)
        assert not alive
    figure(
        "the lock after kill -9", count,
        f"free {free} of {count} times, {with_environments} of them while environments' processes lived",
    )  # fmt: skip
    assert free == count
    assert with_environments == len(range(0, count, 10))
