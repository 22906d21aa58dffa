"""A process on a real pseudo-terminal, and what it left of that terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

import pyte


class Terminal:
    """A process on a terminal of 100×30; its ``controlling`` one is told of when it closes."""

    def __init__(self, argv: list[str], *, controlling: bool = False) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(slave)
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment,
            close_fds=True,
            preexec_fn=_take_the_terminal if controlling else None,
        )
        self.slave = slave
        self.seen = b""

    def read(self, seconds: float = 0.05) -> bool:
        """Take what was written. Whether there was anything."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            added = os.read(self.master, 1 << 16)
        except OSError:
            return False
        self.seen += added
        return bool(added)

    @property
    def shown(self) -> str:
        screen = pyte.Screen(100, 30)
        pyte.ByteStream(screen).feed(self.seen)
        return "\n".join(screen.display)

    def wait_for(self, mark: str, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while mark not in self.shown:
            assert time.monotonic() < end, self.shown
            assert self.process.poll() is None or self.read(), self.shown
            self.read()

    def ends(self, seconds: float = 15.0) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, self.shown
            self.read()
        while self.read():
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for descriptor in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def assert_restored(terminal: Terminal) -> None:
    assert termios.tcgetattr(terminal.slave) == terminal.before
    for on, off in ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?1003h", b"\x1b[?1003l")):
        assert terminal.seen.rindex(off) > terminal.seen.rindex(on)
    assert terminal.seen.rindex(b"\x1b[?25h") > terminal.seen.rindex(b"\x1b[?25l")


def _take_the_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
