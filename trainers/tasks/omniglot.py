"""Omniglot: handwritten characters of fifty alphabets, twenty drawings of each (Lake et al. 2015).

Read from a packed ``.npz`` with the arrays ``images`` [characters, 20, 28, 28] uint8 (ink = 255),
``characters`` (names) and ``background`` (bool), or from the data set's own folders of images, which

    python -m trainers.tasks.omniglot FOLDER FILE.npz

packs, so that they are read once only.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainers.randomness import torch_generator
from trainers.tasks.distribution import Tasks
from trainers.trainer import TrainingError

SIDE, DRAWINGS = 28, 20
EVALUATION = "images_evaluation"
TRAINING_CHARACTERS, ALL_CHARACTERS = 1200, 1623
LARGEST = 1 << 30
"""Bytes that a packed file may unpack to: forty times Omniglot."""
WHERE = (
    "Omniglot lies at https://github.com/brendenlake/omniglot (folder python); "
    "point to it with --data FOLDER, or --data FILE.npz once it is packed"
)

Images = npt.NDArray[np.uint8]


class Omniglot:
    """Classification of ``ways`` characters from ``shots`` drawings of each; inputs are [1, 28, 28] in 0…1.

    1200 characters, chosen by ``seed``, are for meta-training, each of their four rotations a class of its
    own (Santoro et al. 2016); with ``held_out`` tasks are of the others, which are not rotated.
    """

    def __init__(
        self, ways: int, shots: int, query_shots: int, data: str, seed: int = 0, held_out: bool = False
    ) -> None:
        """Raises :class:`TrainingError` when the data can't be read or has too few classes or drawings."""
        if not data:
            raise TrainingError(f"data is not set: {WHERE}")
        images = read_images(data)
        order = torch.randperm(len(images), generator=torch_generator(seed, "split"))
        count = TRAINING_CHARACTERS
        if len(images) < ALL_CHARACTERS:
            count = len(images) * TRAINING_CHARACTERS // ALL_CHARACTERS
        chosen = order[count:] if held_out else order[:count]
        self.images = images[chosen]
        self.ways, self.shots, self.query_shots = ways, shots, query_shots
        self.turns = 1 if held_out else 4
        self.classes = len(chosen) * self.turns
        if ways > self.classes:
            kind = "held-out" if held_out else "meta-training"
            raise TrainingError(
                f"ways = {ways}: must be at most {self.classes}, the {kind} classes of {data}"
            )
        drawings = images.shape[1]
        if shots + query_shots > drawings:
            counts = {"shots": shots, "query_shots": query_shots}
            name, other = ("shots", "query_shots") if query_shots < drawings else ("query_shots", "shots")
            raise TrainingError(
                f"{name} = {counts[name]}: must be at most {drawings - counts[other]}, as a class has "
                f"{drawings} drawings and {other} = {counts[other]}"
            )
        pixels = torch.arange(SIDE * SIDE).view(SIDE, SIDE)
        self._rotated = torch.stack([torch.rot90(pixels, turn).flatten() for turn in range(4)])

    def sample_tasks(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw ``n`` tasks; rows stand class by class."""
        classes = _distinct(self.classes, n, self.ways, generator)
        rows = self.shots + self.query_shots
        order = torch.rand(n, self.ways, self.images.shape[1], generator=generator).argsort(-1)
        drawings, character = order[..., :rows], classes // self.turns
        pixels = self.images[character[..., None], drawings].flatten(3)
        if self.turns > 1:
            turned = self._rotated[classes % self.turns][:, :, None].expand_as(pixels)
            pixels = pixels.gather(3, turned)
        x = pixels.float().div_(255).view(n, self.ways, rows, 1, SIDE, SIDE)
        y = torch.arange(self.ways)[:, None].expand(n, self.ways, rows)
        parts = [part[:, :, rows] for rows in (slice(self.shots), slice(self.shots, None)) for part in (x, y)]
        return Tasks(*(part.flatten(1, 2) for part in parts))


def _distinct(count: int, n: int, k: int, generator: torch.Generator) -> Tensor:
    """``n`` rows of ``k`` distinct numbers below ``count`` in random order, [n, k].

    Floyd's algorithm, for all rows at once: its cost does not grow with ``count``.
    """
    chosen = torch.empty(n, k, dtype=torch.int64)
    for column in range(k):
        last = count - k + column
        drawn = torch.randint(last + 1, (n,), generator=generator)
        taken = (chosen[:, :column] == drawn[:, None]).any(1)
        chosen[:, column] = torch.where(taken, last, drawn)
    return chosen.gather(1, torch.rand(n, k, generator=generator).argsort(1))


@lru_cache(maxsize=1)
def read_images(data: str) -> Tensor:
    """Drawings [characters, drawings, 28, 28] uint8 of a packed file or a folder of images.

    Raises :class:`TrainingError` naming what is wrong and where the data set lies.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        return torch.from_numpy(read_folder(path)[0])
    if not path.is_file():
        raise TrainingError(f"data = {data}: no such file or folder; {WHERE}")
    if not zipfile.is_zipfile(path):
        raise TrainingError(f"data = {data}: not a whole .npz file; {WHERE}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if sum(entry.file_size for entry in arrays.zip.infolist()) > LARGEST:
                raise TrainingError(f"data = {data}: unpacks to more than {LARGEST >> 20} MiB; {WHERE}")
            missing = {"images", "characters", "background"} - set(arrays.files)
            if missing:
                raise TrainingError(f"data = {data}: has no array {', '.join(sorted(missing))}; {WHERE}")
            images: npt.NDArray[Any] = arrays["images"]
            lengths = {name: len(arrays[name]) for name in ("characters", "background")}
    except TrainingError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise TrainingError(f"data = {data}: not a whole .npz file ({error}); {WHERE}") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2:] != (SIDE, SIDE) or not images.size:
        raise TrainingError(
            f"data = {data}: images are {images.dtype} {list(images.shape)}: "
            f"must be uint8 [characters, {DRAWINGS}, {SIDE}, {SIDE}]"
        )
    for name, length in lengths.items():
        if length != len(images):
            raise TrainingError(
                f"data = {data}: {name} has {length} rows: must be {len(images)}, as images has"
            )
    return torch.from_numpy(images)


def read_folder(folder: Path) -> tuple[Images, list[str], list[bool]]:
    """The original folders: ``images_background`` and ``images_evaluation``, or one of them, or alphabets.

    In them lie ``Alphabet/characterNN/*.png``, black ink on white, resized here with Lanczos's filter.
    Returns images, names (``Alphabet/characterNN``) and which belong to the background set. Raises
    :class:`TrainingError`.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise TrainingError(
            f"data = {folder}: a folder of images needs Pillow; pip install pillow, or pack it elsewhere"
        ) from error
    characters = _characters(folder)
    stacks: list[Images] = []
    for character in characters:
        files = _images(character, "*.png")
        if stacks and len(files) != len(stacks[0]):
            raise TrainingError(
                f"data = {folder}: {character.name} of {character.parent.name} has {len(files)} drawings: "
                f"must be {len(stacks[0])}, as the others have"
            )
        drawings = []
        for file in files:
            try:
                with Image.open(file, formats=["PNG"]) as image:
                    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            except (OSError, Image.DecompressionBombError) as error:
                raise TrainingError(f"data = {folder}: {file.name} is not an image ({error})") from error
            # On paper ink is black; here it is what there is.
            drawings.append(255 - np.asarray(small, np.uint8))
        stacks.append(np.stack(drawings))
    background = [EVALUATION not in (folder.name, *c.relative_to(folder).parts) for c in characters]
    return np.stack(stacks), [_name(character) for character in characters], background


def _images(folder: Path, pattern: str) -> list[Path]:
    """Image files in order, without those that macOS adds to archives (``._0709_01.png``)."""
    return sorted(file for file in folder.glob(pattern) if not file.name.startswith("."))


def _name(character: Path) -> str:
    return f"{character.parent.name}/{character.name}"


def _characters(folder: Path) -> list[Path]:
    """The folders of drawings in ``folder``. Raises :class:`TrainingError` where a character stands twice."""
    characters = sorted({file.parent for file in _images(folder, "**/*.png")})
    if not characters:
        packed = sorted(file.name for file in folder.glob("images_*.zip"))
        todo = f"; unzip {' and '.join(packed)} there" if packed else f"; {WHERE}"
        raise TrainingError(f"data = {folder}: there are no .png images in it{todo}")
    first: dict[str, Path] = {}
    for character in characters:
        other = first.setdefault(_name(character), character)
        if other is not character:
            sets = " and in ".join(str(one.parent.parent.relative_to(folder)) for one in (other, character))
            raise TrainingError(
                f"data = {folder}: {_name(character)} stands in {sets}; "
                "leave one of them, as the original has images_background and images_evaluation"
            )
    return characters


def pack(folder: Path, file: Path) -> None:
    """Write the images in ``folder`` as one ``.npz``."""
    images, names, background = read_folder(folder)
    np.savez_compressed(file, images=images, characters=np.array(names), background=np.array(background))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m trainers.tasks.omniglot FOLDER FILE.npz")
    try:
        pack(Path(sys.argv[1]), Path(sys.argv[2]))
    except TrainingError as refusal:
        sys.exit(str(refusal))
