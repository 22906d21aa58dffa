"""Environments in processes of their own that never outlive the trainer and never stop before it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from types import ModuleType
from typing import Any

from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState

CLOSING_SECONDS = 3.0
"""How long environments may take to close before their processes are killed."""


# Ctrl-C, a hangup and Slurm's SIGTERM or SIGUSR1 go to the whole group or job. The trainer answers them by
# finishing its iteration, for which it needs its environments and the servers behind them.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@functools.cache
def prepare_subprocess() -> None:
    """What a process does, once, before it makes its first environment."""
    for number in _SIGNALS:
        # Not SIG_IGN, which a simulator that the environment starts would inherit.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_die_with_parent, name="die-with-parent", daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])  # ready when the trainer is gone, even by SIGKILL
        os._exit(1)


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    # A new process runs the main script again under another name, which our processes have no need of:
    # it may import torch, two seconds in each of them, or lack the guard against starting it all anew.
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    # What is started meanwhile inherits it: the fork server, Python's resource tracker, new environments.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # starting the tracker unblocks some of them
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _close(vector: weakref.ref[SubprocessVectorEnv]) -> None:
    if (alive := vector()) is not None:
        alive.close()


class SubprocessVectorEnv(AsyncVectorEnv):
    """Gymnasium's :class:`AsyncVectorEnv` with processes that ignore signals, and are killed to end them."""

    def __init__(self, env_fns: Sequence[Callable[[], Any]]) -> None:
        # Not fork: the trainer has threads (heartbeat, torch's, CUDA's), whose locks a fork copies in
        # whatever state they are; and a fork keeps open the journal, the run's lock and the terminal.
        # A fork server is a clean process with one thread, so that its forks are safe, and starting
        # another environment costs milliseconds because it has imported Gymnasium already.
        context = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        if context == "forkserver":
            multiprocessing.set_forkserver_preload(["gymnasium.vector", "trainers.envs.vectors"])
        with _without_main_module(), _signals_blocked():
            super().__init__(env_fns, context=context, daemon=True)
        # Before multiprocessing's own exit handler, which would send SIGTERM and wait for ever. Weak, so
        # that environments which nobody closes still end their processes when they are collected.
        self._at_exit = functools.partial(_close, weakref.ref(self))
        atexit.register(self._at_exit)

    def first_dead(self) -> tuple[int, int | None] | None:
        """Index and exit code of the first process that has ended."""
        for index, process in enumerate(self.processes):
            process.join(0.2)
            if not process.is_alive():
                return index, process.exitcode
        return None

    def close_extras(self, timeout: float | None = CLOSING_SECONDS, terminate: bool = False) -> None:
        """Let the environments close, for ``timeout`` seconds at most, and end their processes."""
        if hasattr(self, "_at_exit"):
            atexit.unregister(self._at_exit)
        pipes = [pipe for pipe in self.parent_pipes if pipe is not None and not pipe.closed]
        if not terminate and self._state == AsyncState.DEFAULT:
            for pipe in pipes:
                with contextlib.suppress(OSError):
                    pipe.send(("close", None))
            deadline = time.monotonic() + (CLOSING_SECONDS if timeout is None else timeout)
            for process in self.processes:
                process.join(max(deadline - time.monotonic(), 0))
        for process in self.processes:
            process.kill()
            process.join()
        for pipe in pipes:
            pipe.close()

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        # Gymnasium's prints the traceback in colours and makes the exception anew from its message alone.
        if all(successes):
            return
        try:
            _, _, error, _ = self.error_queue.get(timeout=CLOSING_SECONDS)
        except queue.Empty:
            raise EOFError("an environment's process failed without saying why") from None
        self._state = AsyncState.DEFAULT
        raise error
