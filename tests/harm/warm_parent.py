"""A process that has imported torch and forks: workers start in milliseconds and are killed by the hundred.

Run as a program it is that process; :class:`WarmParent` is the handle that tests have of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_PARENT_DEATH_SIGNAL = 1
PRELOADED = (
    "torch", "safetensors.numpy", "gymnasium.envs.classic_control", "metarl_tui.worker.loop",
    "metarl_tui.headless", "trainers.ppo", "trainers.maml", "trainers.envs.subprocesses", "victims",
)  # fmt: skip


class Child:
    """A process forked from the warm parent, in a session of its own."""

    def __init__(self, parent: WarmParent, pid: int) -> None:
        self._parent = parent
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, minus the signal where one ended it; ``None`` while it runs."""
        if self.code is None:
            self.code = self._parent.ask({"poll": self.pid})
        return self.code

    def wait(self, seconds: float = 30.0) -> int:
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < end, f"process {self.pid} did not end within {seconds} s"
            time.sleep(0.003)
        return code

    def signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(10)


class WarmParent:
    """Forks processes that call a function of :mod:`victims`; one output file each, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[Child] = []
        self._count = 0
        places = [
            HERE,
            HERE / "environments",
            HERE.parent / "worker",
            HERE.parent / "worker" / "environments",
        ]
        path = os.pathsep.join([*map(str, places), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "warm_parent.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )

    def ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, function: str, *arguments: Any, **keywords: Any) -> Child:
        """A process that calls ``victims.function``; what that returns is its exit code."""
        self._count += 1
        output = str(self.folder / f"{self._count}.log")
        order = {"function": function, "arguments": arguments, "keywords": keywords, "output": output}
        child = Child(self, self.ask(order))
        self._children.append(child)
        return child

    def output(self, child: Child) -> str:
        """What ``child`` has written."""
        return (self.folder / f"{self._children.index(child) + 1}.log").read_text("utf-8", "replace")

    def end_all(self) -> None:
        for child in self._children:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait(10)

    def close(self) -> None:
        self.end_all()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def _serve() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        importlib.import_module("victims").train_each_once(Path(folder))
    # A fork copies the locks of other threads in whatever state they are; there must be none.
    assert len(list(Path("/proc/self/task").iterdir())) == 1
    gc.collect()
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        answer = _ended(order["poll"]) if "poll" in order else _fork(order)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _ended(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _die_with_the_tests() -> None:
    """Workers outlive what started them; these must not outlive tests that were killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        _die_with_the_tests()
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 64)
        function = getattr(importlib.import_module("victims"), order["function"])
        code = function(*order["arguments"], **order["keywords"]) or 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
