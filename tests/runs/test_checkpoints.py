from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl_tui.runs import checkpoints
from metarl_tui.runs.checkpoints import Contents, DamagedCheckpoint, listed, load, newest_good, save, thin
from metarl_tui.runs.folder import RunFolder


def example(scale: float = 1.0) -> Contents:
    generator = np.random.default_rng(0)
    return Contents(
        weights={"policy.0.weight": generator.standard_normal((4, 3)).astype(np.float32) * np.float32(scale)},
        tensors={"adam.m": np.ones(5), "count": np.array(3)},
        numbers={"iteration": 12, "generator": "0f" * 16},
    )


def test_arrays_and_numbers_come_back_bit_for_bit(run: RunFolder) -> None:
    generator = np.random.default_rng(1)
    plain = generator.standard_normal((3, 4, 5))
    arrays: dict[str, Any] = {
        "zero-d": np.array(2.5), "zero-d bool": np.array(True), "empty": np.zeros((0, 3), np.float32),
        "bool": generator.random(7) > 0.5, "int64": np.array([-(2**63), 2**63 - 1]),
        "uint8": np.arange(256, dtype=np.uint8), "float32": plain.astype(np.float32), "float64": plain,
        "float16": plain.astype(np.float16), "fortran": np.asfortranarray(plain), "transposed": plain.T,
        "strided": plain[:, ::2, ::-1], "broadcast": np.broadcast_to(np.arange(3.0), (4, 3)),
        "special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]), "big-endian": np.arange(3, dtype=">f4"),
    }  # fmt: skip
    numbers = {
        "nan": float("nan"),
        "inf": -float("inf"),
        "big": 2**130,
        "tiny": 5e-324,
        "third": 1 / 3,
        "nested": [{}],
    }
    kept = load(save(run, 120, Contents(weights={}, tensors=arrays, numbers=numbers), "automatic"))
    assert kept.weights == {}
    assert kept.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        found = kept.tensors[name]
        assert (found.shape, found.dtype) == (array.shape, array.dtype.newbyteorder("=")), name
        assert found.tobytes() == array.astype(found.dtype).tobytes(), name
    assert repr(kept.numbers) == repr(numbers)


def test_a_checkpoint_tells_why_it_was_made(run: RunFolder) -> None:
    first = save(run, 7, example(), "automatic")
    again = save(run, 7, example(scale=2.0), "best")
    assert first.path.name == "00000007"
    assert (again.reasons, again.reason) == (("automatic", "best"), "automatic, best")
    assert save(run, 7, example(), "best").reasons == ("automatic", "best")
    assert np.array_equal(load(again).weights["policy.0.weight"], example().weights["policy.0.weight"])
    assert again.size == sum(
        file.stat().st_size for file in again.path.iterdir() if file.name != "manifest.json"
    )
    assert [checkpoint.iteration for checkpoint in listed(run)] == [7]


def test_what_cannot_be_stored_is_refused_and_leaves_nothing(run: RunFolder) -> None:
    for contents in (
        Contents(weights={"a": np.array(["text"])}), Contents(tensors={"a": np.array([object()])}),
        Contents(numbers={"a": {1, 2}}),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            save(run, 1, contents, "automatic")
    assert list(run.checkpoints.iterdir()) == []


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_failure_at_any_step_leaves_the_previous_one_whole(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    save(run, 1, example(), "automatic")
    real = getattr(os, call)
    calls = failing = 0

    def fail(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > failing:
            raise OSError(28, "No space left on device")
        return real(*arguments, **named)

    for failing in range(20):
        calls = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            try:
                save(run, 2, example(), "automatic")
            except OSError:
                pass
            else:
                break
        found = newest_good(run)
        assert found is not None
        whole, contents, damaged = found
        # Past the rename only its durability is open: the new one is then there, and whole.
        assert whole.iteration == 1 or calls == failing + 1 > 5
        assert contents.numbers == example().numbers
        assert damaged == []
        assert not list(run.checkpoints.glob(".tmp-*"))
        if whole.iteration == 2:
            checkpoints.remove(run, whole)
    else:
        pytest.fail("never succeeded")
    assert failing > 0
    assert [checkpoint.iteration for checkpoint in listed(run)] == [1, 2]


def test_a_kill_in_the_middle_of_saving_leaves_whole_checkpoints(run: RunFolder) -> None:
    program = """
import sys
import numpy as np
from metarl_tui.runs import checkpoints, folder
run = folder.RunFolder(sys.argv[1])
iteration = len(checkpoints.listed(run))
while True:
    iteration += 1
    contents = checkpoints.Contents({"a": np.full(200_000, float(iteration))}, {}, {"iteration": iteration})
    checkpoints.save(run, iteration, contents, "automatic")
    checkpoints.thin(run, at_most=8)
    print(iteration, flush=True)
"""
    for turn in range(4):
        process = subprocess.Popen([sys.executable, "-c", program, str(run.path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.013 * (turn + 1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = newest_good(run)
        assert found is not None
        checkpoint, contents, damaged = found
        assert damaged == []
        assert contents.weights["a"][-1] == contents.numbers["iteration"] == checkpoint.iteration
    save(run, 10**6, example(), "final")
    assert not list(run.checkpoints.glob(".tmp-*"))


def damages(path: Path) -> list[Any]:
    def rewrite(name: str, change: Any) -> Any:
        return lambda: (path / name).write_bytes(change((path / name).read_bytes()))

    def flip(data: bytes) -> bytes:
        return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]

    changes = [
        flip,
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data + b" ",
        lambda data: bytes(len(data)),
    ]
    names = ("weights.safetensors", "state.safetensors", "state.json", "manifest.json")
    found = [
        rewrite(name, change)
        for name in names
        for change in changes
        if name != "manifest.json" or change != changes[3]
    ]
    found += [(path / name).unlink for name in names]
    found.append(lambda: ((path / "state.json").unlink(), (path / "state.json").symlink_to("/dev/zero")))
    found.append(rewrite("manifest.json", lambda data: data.replace(b'"iteration": 2', b'"iteration": 3')))
    found.append(rewrite("manifest.json", lambda data: data.replace(b'"state.json"', b'"../../run.json"')))
    found.append(rewrite("manifest.json", lambda data: b"[" * 5000))
    return found


def test_a_damaged_checkpoint_is_passed_over_and_named(run: RunFolder) -> None:
    save(run, 1, example(), "automatic")
    for turn in range(100):
        checkpoints.set_aside_above(run, 1)
        second = save(run, 2, example(2.0), "best")
        changes = damages(second.path)
        if turn >= len(changes):
            break
        changes[turn]()
        found = newest_good(run)
        assert found is not None, turn
        checkpoint, contents, damaged = found
        if turn == 15:  # a flipped bit of the manifest may lie in a reason
            continue
        assert checkpoint.iteration == 1, turn
        assert contents.numbers == example().numbers
        assert [(one.path, one.iteration) for one in damaged] == [(second.path, 2)]
        assert "checkpoint 00000002 is damaged" in str(damaged[0])
        assert (listed(run)[-1].reasons, listed(run)[-1].size) in (((), 0), (("best",), second.size))
        # Written again, it is whole again.
        save(run, 2, example(3.0), "automatic")
        assert newest_good(run)[2] == []  # type: ignore[index]
    assert turn > 25


def test_where_nothing_is_whole_there_is_none(run: RunFolder) -> None:
    assert newest_good(run) is None
    checkpoint = save(run, 3, example(), "automatic")
    assert newest_good(run, at_most=2) is None
    (checkpoint.path / "manifest.json").unlink()
    assert newest_good(run) is None
    with pytest.raises(DamagedCheckpoint, match="manifest"):
        load(listed(run)[0])
    run.checkpoints.rename(run.path / "elsewhere")
    assert listed(run) == []


def test_hostile_contents_with_right_checksums_are_damage(run: RunFolder) -> None:
    import hashlib

    import orjson

    for name, content in (
        ("weights.safetensors", b"\xff" * 8 + b"{"), ("weights.safetensors", b"\x80\x04cos\nsystem\n"),
        ("weights.safetensors", (10**7).to_bytes(8, "little") + b"{" * 100), ("state.json", b"[" * 100_000),
        ("state.json", b'{"a": ' + b"9" * 10_000 + b"}"), ("state.json", b"[]"), ("state.json", b"\xff"),
        ("weights.safetensors", (2).to_bytes(8, "little") + b"{}" + b"more"),
    ):  # fmt: skip
        checkpoints.set_aside_above(run, 0)
        checkpoint = save(run, 1, example(), "automatic")
        manifest = orjson.loads((checkpoint.path / "manifest.json").read_bytes())
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (checkpoint.path / name).write_bytes(content)
        (checkpoint.path / "manifest.json").write_bytes(orjson.dumps(manifest))
        with pytest.raises(DamagedCheckpoint, match=name):
            load(checkpoint)


def test_thinning_keeps_what_must_stay_and_spreads_the_rest(run: RunFolder) -> None:
    tiny = Contents()
    for iteration in range(1, 61):
        reason = {20: "asked", 7: "best", 33: "best"}.get(iteration, "automatic")
        save(run, iteration, tiny, reason)
        thin(run, keep={41}, at_most=8)
    left = [checkpoint.iteration for checkpoint in listed(run)]
    assert {1, 20, 33, 41, 59, 60} <= set(left)
    assert len(left) <= 8 + 6
    gaps = np.diff(left)
    assert gaps.max() <= 4 * 60 / len(left)
    assert thin(run, keep={41}, at_most=8) == []
    removed = thin(run, at_most=0)
    assert [checkpoint.iteration for checkpoint in listed(run)] == [1, 20, 33, 59, 60]
    assert set(removed) == set(left) - {1, 20, 33, 59, 60}


def test_links_and_other_names_are_not_checkpoints(run: RunFolder, tmp_path: Path) -> None:
    save(run, 1, Contents(), "automatic")
    (tmp_path / "elsewhere").mkdir()
    (run.checkpoints / "00000009").symlink_to(tmp_path / "elsewhere")
    (run.checkpoints / "notes").mkdir()
    (run.checkpoints / "00000010").write_text("")
    assert [checkpoint.iteration for checkpoint in listed(run)] == [1]
    assert checkpoints.set_aside_above(run, 0) == [1]
    assert (tmp_path / "elsewhere").exists()
