from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time

import orjson
import pytest

from metarl_tui.runs import checkpoints, requests
from metarl_tui.runs.checkpoints import Contents
from metarl_tui.runs.folder import RunError, RunFolder, acquire_lock
from metarl_tui.runs.heartbeat import Heart
from metarl_tui.runs.journal import Journal, JournalReader
from metarl_tui.runs.process import write_worker
from metarl_tui.runs.requests import WorkerGone, discard, pending, send, wait_for


def answer_all(run: RunFolder, journal: Journal, result: str = "applied") -> int:
    waiting = pending(run)
    for request in waiting:
        journal.append("control", 1, request=request.id, action=request.action, by=request.by, result=result)
        discard(run, request)
    return len(waiting)


def test_as_many_are_handed_out_as_are_asked_for(run: RunFolder) -> None:
    for number in range(1_003):
        data = orjson.dumps({"id": f"id-{number:04}", "time": number, "action": "save"})
        (run.requests / f"{number:04}.json").write_bytes(data)
    every = [request.id for request in pending(run, most=None)]
    assert every == [f"id-{number:04}" for number in range(1_003)]
    assert [request.id for request in pending(run)] == every[:1_000]
    assert [request.id for request in pending(run, most=2)] == every[:2]


def test_requests_come_in_the_order_in_which_they_were_sent(run: RunFolder) -> None:
    assert pending(run) == []
    sent = [
        send(run, "set", {"clip_epsilon": 0.1, "target_kl": None, "hidden_sizes": [64, 64]}, rebase=True),
        send(run, "pause"), send(run, "resume"), send(run, "save"), send(run, "stop"),
    ]  # fmt: skip
    assert pending(run) == sent
    assert sent[0].changes == {"clip_epsilon": 0.1, "target_kl": None, "hidden_sizes": [64, 64]}
    assert sent[0].rebase
    assert "@" in sent[0].by
    discard(run, sent[1])
    discard(run, sent[1])
    assert pending(run) == [sent[0], *sent[2:]]


def test_two_processes_send_at_once_and_each_request_is_applied_once(run: RunFolder) -> None:
    program = """
import sys
from metarl_tui.runs import folder, requests
run = folder.RunFolder(sys.argv[1])
for number in range(50):
    requests.send(run, "set", {"number": number})
    requests.send(run, "save") if number % 10 == 0 else None
"""
    senders = [subprocess.Popen([sys.executable, "-c", program, str(run.path)]) for _ in range(2)]
    with Journal(run.journal) as journal:
        answered = 0
        while any(sender.poll() is None for sender in senders):
            answered += answer_all(run, journal)
        answered += answer_all(run, journal)
    assert [sender.returncode for sender in senders] == [0, 0]
    assert answered == 110
    ids = [record["request"] for record in JournalReader(run.journal).read()]
    assert len(set(ids)) == len(ids) == 110
    assert list(run.requests.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff", b"[" * 2000, b'{"id": "a"}',
        b'{"id": "a", "time": 1, "action": "explode"}',
        b'{"id": "../x", "time": 1, "action": "stop"}',
        b'{"id": "a", "time": "x", "action": "stop"}',
        b'{"id": "a", "time": 1, "action": ["stop"]}',
        b'{"id": "a", "time": 1, "action": "set", "changes": [1]}',
        b'{"id": "a", "time": 1, "action": "set", "rebase": 1}',
        b'{"id": "a", "time": 1, "action": "set", "changes": {"a": [[[[[[[[[[1]]]]]]]]]]}}',
        b'{"id": "a", "time": 1, "action": "stop"' + b" " * 100_000 + b"}",
        b'{"id": "a", "time": 1, "action": "stop","crc":"00000000"}',
    ],
)  # fmt: skip
def test_malformed_requests_are_moved_aside(run: RunFolder, content: bytes) -> None:
    (run.requests / "1-bad.json").write_bytes(content)
    good = send(run, "pause")
    bad: list[str] = []
    assert pending(run, bad) == [good]
    assert bad == ["1-bad.json"]
    assert requests.moved_aside(run) == 1
    assert (run.requests / "1-bad.json.bad").read_bytes() == content
    assert pending(run, bad) == [good]
    assert len(bad) == 1


def test_what_is_no_file_is_no_request(run: RunFolder) -> None:
    (run.requests / "1.json").mkdir()
    os.mkfifo(run.requests / "2.json")
    (run.requests / "3.json").symlink_to("/etc/passwd")
    (run.requests / ".4.json").write_text("being written")
    bad: list[str] = []
    assert pending(run, bad) == []
    assert bad == ["1.json", "2.json", "3.json"]
    run.requests.rename(run.path / "elsewhere")
    assert pending(run) == []
    assert requests.moved_aside(run) == 0


def test_a_request_may_be_written_by_hand(run: RunFolder) -> None:
    hostile = "me\x1b[31m"
    fields = {"id": "by-hand.1", "time": 3, "action": "set", "changes": {"gamma": 0.9}, "by": hostile}
    (run.requests / "anything.json").write_bytes(orjson.dumps(fields))
    (request,) = pending(run)
    assert (request.id, request.time, request.changes, request.by) == ("by-hand.1", 3.0, {"gamma": 0.9}, "me")
    discard(run, request)
    assert list(run.requests.iterdir()) == []


def test_senders_learn_what_became_of_their_request(run: RunFolder) -> None:
    with acquire_lock(run), Journal(run.journal) as journal, Heart(run):
        write_worker(run)
        journal.append("status", 0, state="running")
        early = send(run, "pause")
        answer_all(run, journal)
        for number in range(500):
            journal.append("metrics", number, values={"a": 1.0})
        answer = wait_for(run, early, timeout=5)
        assert answer is not None
        assert answer["result"] == "applied"
        late = send(run, "set", {"gamma": 2})
        timer = threading.Timer(0.1, answer_all, (run, journal, "rejected"))
        timer.start()
        answer = wait_for(run, late, timeout=5)
        timer.join()
        assert answer is not None
        assert (answer["request"], answer["result"]) == (late.id, "rejected")
        began = time.monotonic()
        assert wait_for(run, send(run, "save"), timeout=0.1) is None
        assert time.monotonic() - began < 2
        malformed = send(run, "save")
        (run.requests / malformed.file).write_text("{")
        pending(run)
        with pytest.raises(RunError, match="could not read"):
            wait_for(run, malformed, timeout=5)
    assert len(pending(run)) == 1


def test_senders_learn_that_nobody_is_there(run: RunFolder) -> None:
    program = """
import os, sys
from metarl_tui.runs import folder, journal, process
run = folder.RunFolder(sys.argv[1])
process.write_worker(run)
with journal.Journal(run.journal) as tape:
    tape.append("status", 0, state="running")
    if sys.argv[2:]:
        tape.append("status", 7, state=sys.argv[2], why="asked by me")
"""
    subprocess.run([sys.executable, "-c", program, str(run.path)], check=True)
    with pytest.raises(WorkerGone, match="is lost") as caught:
        wait_for(run, send(run, "stop"), timeout=5)
    assert caught.value.standing.state == "lost"
    assert pending(run) == []
    subprocess.run([sys.executable, "-c", program, str(run.path), "stopped"], check=True)
    with pytest.raises(WorkerGone, match="is stopped: asked by me"):
        wait_for(run, send(run, "pause"), timeout=5)


def test_an_answer_is_found_although_its_worker_has_ended(run: RunFolder) -> None:
    write_worker(run)
    with Journal(run.journal) as journal:
        request = send(run, "stop")
        answer_all(run, journal)
        journal.append("status", 3, state="stopped")
    answer = wait_for(run, request, timeout=5)
    assert answer is not None
    assert answer["result"] == "applied"


def test_a_request_whose_file_cannot_be_removed_is_handed_out_once(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    request = send(run, "stop")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        discard(run, request)
    assert (run.requests / request.file).exists()
    assert pending(run) == []


def test_a_run_that_was_removed_does_not_come_back_in_part(run: RunFolder) -> None:
    shutil.rmtree(run.path)
    with pytest.raises(RunError, match="the run's folder was removed; the request was not sent"):
        send(run, "stop")
    with pytest.raises(FileNotFoundError, match="removed"):
        checkpoints.save(run, 2, Contents(numbers={"x": 1}), "automatic")
    assert not run.path.exists()
