"""What somebody who means harm may put into a run folder before handing it on."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import Result
from fake_runs import write_run

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.heartbeat import SIZE
from metarl_tui.runs.records import seal

Invoke = Callable[..., Result]
Disguise = Callable[[Path, Path], None]
"""Changes the run in the first folder; the second one lies outside of it."""

FILES = ("run.json", "journal.jsonl", "summary.json", "heartbeat", "worker.json", "launched.json",
         "worker.log", "lock", "trusted")  # fmt: skip
CHECKPOINT = "checkpoints/00000005"
CHECKPOINT_FILES = tuple(
    f"{CHECKPOINT}/{name}"
    for name in ("manifest.json", "weights.safetensors", "state.safetensors", "state.json")
)
GIGABYTE = 1 << 30
LAST_NUMBER = (1 << 53) - 1
"""The highest number that a record may have."""

MODULE = """
import os, pathlib
pathlib.Path(os.environ["WITNESS"]).write_text("imported")
raise SystemExit("evil was imported")
"""


class Payload:
    """Unpickling one of these leaves the witness."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ('touch "$WITNESS"',)


PICKLE = pickle.dumps(Payload())


def received(runs_dir: Path, config: dict[str, Any] | None = None, **what: Any) -> RunFolder:
    """A run of PPO as it came from elsewhere: ended, with a checkpoint and a log."""
    path = write_run(runs_dir, **{"iterations": 8, "end": "stopped", "config": config, **what})
    run = RunFolder(path)
    weights = {"layer": np.ones((2, 2), np.float32)}
    checkpoints.save(run, 5, checkpoints.Contents(weights, weights, {"iteration": 5}), "automatic")
    run.log.write_text("a line\n")
    run.log.chmod(0o600)
    return run


def replace(run: Path, name: str, content: bytes) -> None:
    """Put ``content`` in a file's place; a checkpoint's manifest is made to match."""
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    if name in CHECKPOINT_FILES[1:]:
        manifest = path.parent / "manifest.json"
        found = orjson.loads(manifest.read_bytes())
        found["files"][path.name] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        manifest.write_bytes(orjson.dumps(found))


def change(run: Path, **fields: Any) -> None:
    """Change fields of ``run.json``; of ``setup`` only those that are named."""
    config = orjson.loads((run / "run.json").read_bytes())
    config["setup"].update(fields.pop("setup", {}))
    (run / "run.json").write_bytes(orjson.dumps(config | fields))


def append(run: Path, *records: dict[str, Any]) -> None:
    """Append records to the journal as an attacker would: without asking anything."""
    with (run / "journal.jsonl").open("ab") as journal:
        for number, record in enumerate(records):
            head = {"seq": 1000 + number, "time": 1.8e9, "iteration": 8}
            journal.write(orjson.dumps({**head, **record}) + b"\n")


def contents(folder: Path) -> dict[str, object]:
    """All that lies in ``folder``: names, kinds, contents, without following links."""
    found: dict[str, object] = {}
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            found[str(path.relative_to(folder))] = (mode, path.read_bytes() if path.is_file() else None)
    return found


# -- disguises ----------------------------------------------------------------------------------------


def pickles(run: Path, outside: Path) -> None:
    for name in (*FILES[1:], *CHECKPOINT_FILES[1:]):
        replace(run, name, PICKLE)


def pickled_checkpoint(run: Path, outside: Path) -> None:
    for name in CHECKPOINT_FILES[1:]:
        replace(run, name, PICKLE)


def import_paths(run: Path, outside: Path) -> None:
    (run / "evil.py").write_text(MODULE)
    name = "evil:Evil"
    change(run, subject=name, working_folder=str(run), trainer=name, version=name,
           setup={"env": name, "device": name, "vector": name, "env_arg": {"evil": name}},
           hyperparameters={"activation": name}, parent={"run": name, "iteration": 1})  # fmt: skip
    append(run, {"kind": "status", "state": "started", "decisions": {"env": name, "vector": name}},
           {"kind": "status", "state": "stopped"})  # fmt: skip


def links(run: Path, outside: Path) -> None:
    for name in (*FILES[1:], *CHECKPOINT_FILES):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside / "settings.json")
    linked_folders(run, outside)


def linked_folders(run: Path, outside: Path) -> None:
    for name, where in (("requests", outside), ("checkpoints", outside / "checkpoints")):
        (run / name).rename(run / f"{name}.old")
        (run / name).symlink_to(where)


def linked_configuration(run: Path, outside: Path) -> None:
    (run / "run.json").unlink()
    (run / "run.json").symlink_to(outside / "settings.json")


def links_to_devices(run: Path, outside: Path) -> None:
    for name in (*FILES[1:], *CHECKPOINT_FILES):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to("/dev/zero")


def pipes(run: Path, outside: Path) -> None:
    for name in (*FILES[1:], *CHECKPOINT_FILES, "requests/1.json"):
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)


def a_pipe_for_configuration(run: Path, outside: Path) -> None:
    (run / "run.json").unlink()
    os.mkfifo(run / "run.json")


def folders_for_files(run: Path, outside: Path) -> None:
    for name in (*FILES[1:], *CHECKPOINT_FILES, "requests/1.json"):
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()


def other_places(run: Path, outside: Path) -> None:
    up = "../../outside/notes.txt"
    change(run, name=up, subject=up, parent={"run": up, "iteration": 1}, working_folder=up)
    manifest = run / CHECKPOINT_FILES[0]
    found = orjson.loads(manifest.read_bytes())
    found["files"][up] = found["files"].pop("state.json")
    manifest.write_bytes(orjson.dumps(found))
    append(run, {"kind": "checkpoint", "name": up, "reason": up, "bytes": 1},
           {"kind": "control", "request": up, "action": up, "result": "applied", "changes": {up: [up, up]}},
           {"kind": "picture", "picture": {"type": up}})  # fmt: skip
    for name in ("1.json", "..json"):
        (run / "requests" / name).write_bytes(orjson.dumps({"id": up, "time": 1, "action": "stop"}))


def sparse_gigabytes(run: Path, outside: Path) -> None:
    for name in (*FILES[1:], *CHECKPOINT_FILES, "requests/1.json"):
        with (run / name).open("ab") as file:
            # The two that are read through, and not at once, are smaller: for the time it takes.
            file.truncate(GIGABYTE >> 4 if name in ("journal.jsonl", "worker.log") else GIGABYTE)


def sparse_terabytes(run: Path, outside: Path) -> None:
    """Each would take minutes to read, from either end."""
    for name in (*FILES[1:], *CHECKPOINT_FILES, "requests/1.json"):
        with (run / name).open("ab") as file:
            file.truncate(1 << 41)


def hard_links(run: Path, outside: Path) -> None:
    """As an archive may bring them that is unpacked beside the reader's files."""
    for name in (*FILES[1:], *CHECKPOINT_FILES, "requests/1.json"):
        (run / name).unlink(missing_ok=True)
        os.link(outside / "settings.json", run / name)


def devices(run: Path, outside: Path) -> None:
    for name in (*FILES[1:], *CHECKPOINT_FILES, "requests/1.json"):
        (run / name).unlink(missing_ok=True)
        try:
            os.mknod(run / name, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
        except PermissionError:
            pytest.skip("only root may make devices")


def deep_nestings(run: Path, outside: Path) -> None:
    deep = b'{"a":' * 100_000
    for name in (*FILES[1:], *CHECKPOINT_FILES[1:], CHECKPOINT_FILES[0], "requests/1.json"):
        replace(run, name, deep + b"\n")
    replace(run, "journal.jsonl", b'{"seq":1,"time":1,"iteration":1,"kind":"note","text":' + deep + b"\n")


def giant_numbers(run: Path, outside: Path) -> None:
    digits = b"9" * 100_000
    with (run / "journal.jsonl").open("ab") as journal:
        for number in (digits, b"1e999999", b"-1e400", b"18446744073709551616", b"1e-999999"):
            journal.write(
                b'{"seq":%b,"time":%b,"iteration":%b,"kind":"metrics","values":{"a/b":%b}}\n'
                % ((number,) * 4)
            )
            journal.write(
                b'{"seq":99,"time":1,"iteration":9,"kind":"metrics","values":{"a/b":%b}}\n' % number
            )
    for name in ("summary.json", "heartbeat", "worker.json", "launched.json", CHECKPOINT_FILES[0]):
        fields = b",".join(
            b'"%b":%b' % (field, digits)
            for field in (b"iteration", b"pid", b"start_time", b"beat", b"seq", b"total", b"best", b"updated")
        )
        replace(
            run, name, b'{"state":"running","host":"' + os.uname().nodename.encode() + b'",' + fields + b"}"
        )
    change(run, setup={"seed": 1e308}, created=253_402_300_799)


def giant_headers(run: Path, outside: Path) -> None:
    for name in CHECKPOINT_FILES[1:3]:
        replace(run, name, (1 << 62).to_bytes(8, "little") + b"{}" * 100)


def giant_tensors(run: Path, outside: Path) -> None:
    for shape, end in (([1 << 40, 1 << 40], 0), ([0, 1 << 62], 0), ([1 << 62], 4)):
        header = orjson.dumps({"layer": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}})
        content = len(header).to_bytes(8, "little") + header + b"\0" * end
        for name in CHECKPOINT_FILES[1:3]:
            replace(run, name, content)


def lock_in_a_loop(run: Path, outside: Path) -> None:
    (run / "lock").symlink_to("lock")


def a_folder_for_the_worker(run: Path, outside: Path) -> None:
    (run / "worker.json").mkdir()


def _end_journal(run: Path, seq: int) -> None:
    """A note with that number and a right checksum, as the last record."""
    note = {"seq": seq, "time": 1.8e9, "iteration": 8, "kind": "note", "text": "the last"}
    with (run / "journal.jsonl").open("ab") as journal:
        journal.write(seal(orjson.dumps(note)) + b"\n")


def the_last_number(run: Path, outside: Path) -> None:
    """No record can come after it: its number would be none."""
    _end_journal(run, LAST_NUMBER)


def the_last_number_but_one(run: Path, outside: Path) -> None:
    _end_journal(run, LAST_NUMBER - 1)


def a_heartbeat_far_ahead(run: Path, outside: Path) -> None:
    """It tells of records that no journal can have."""
    beat = {"pid": 1, "start_time": 1.0, "beat": 1, "monotonic": 1.0, "wall": 1.8e9, "iteration": 8,
            "since_boundary": 0.0, "median_iteration": 0.1, "state": "running", "message": "",
            "journaled": LAST_NUMBER}  # fmt: skip
    replace(run, "heartbeat", seal(orjson.dumps(beat)).ljust(SIZE - 1) + b"\n")


IMPASSES: tuple[Disguise, ...] = (
    lock_in_a_loop, a_folder_for_the_worker, the_last_number, the_last_number_but_one, a_heartbeat_far_ahead,
)  # fmt: skip
"""What can be read, but a worker can't go on from."""

DISGUISES: tuple[Disguise, ...] = (
    *IMPASSES,
    pickles, pickled_checkpoint, import_paths, links, linked_folders, linked_configuration, links_to_devices,
    pipes, a_pipe_for_configuration, devices, hard_links, folders_for_files, other_places, sparse_gigabytes,
    sparse_terabytes, deep_nestings,
    giant_numbers, giant_headers, giant_tensors,
)  # fmt: skip
