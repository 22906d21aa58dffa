"""Data sets that a received run may point to are read as data, and within bounds."""

from __future__ import annotations

import os
import resource
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from received import PICKLE, Payload

from trainers.tasks.omniglot import read_images
from trainers.trainer import TrainingError


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        for name in ("characters", "background"):
            bomb.writestr(f"{name}.npy", b"")
        with bomb.open("images.npy", "w", force_zip64=True) as member:
            for _ in range(65):
                member.write(bytes(1 << 24))
    assert path.stat().st_size < 1 << 23
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TrainingError, match="unpacks to more than 1024 MiB"):
        read_images(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path, witness: Path) -> None:
    path = tmp_path / "objects.npz"
    objects = np.array([Payload()], object)
    np.savez(path, images=objects, characters=objects, background=objects)
    with pytest.raises(TrainingError, match="not a whole"):
        read_images(str(path))
    (tmp_path / "pickle.npz").write_bytes(PICKLE)
    with pytest.raises(TrainingError, match="not a whole"):
        read_images(str(tmp_path / "pickle.npz"))
    assert not witness.exists()


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    for path in (tmp_path / "pipe.npz", Path("/dev/zero")):
        with pytest.raises(TrainingError, match="no such file"):
            read_images(str(path))


def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    side = (1 << 20).to_bytes(4, "big")
    head = chunk(b"IHDR", side + side + bytes([8, 0, 0, 0, 0]))
    folder = tmp_path / "alphabet" / "character01"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    )
    with pytest.raises(TrainingError, match="not an image"):
        read_images(str(tmp_path))
