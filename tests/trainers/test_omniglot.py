"""Omniglot: which characters are whose, what a file or a folder gives, what is said of bad ones."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import write_omniglot
from maml_runs import trainer

from trainers.declarations import InvalidValue
from trainers.tasks.omniglot import Omniglot, read_folder, read_images
from trainers.trainer import TrainingError

FEW = {"ways": 3, "shots": 1, "query_shots": 2}
REAL = os.environ.get("METARL_DATA", "")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def characters_of(x, images):
    """Which of ``images`` [characters, drawings, 28, 28] each row of ``x`` is a drawing of."""
    known = {bytes(pixels): number for number, stack in enumerate(images.numpy()) for pixels in stack}
    return torch.tensor([known[bytes(pixels)] for pixels in (255 * x).round().byte().numpy()])


def test_a_task_has_distinct_classes_and_no_drawing_twice(tiny_omniglot):
    held_out = Omniglot(5, 2, 3, str(tiny_omniglot), held_out=True)
    tasks = held_out.sample_tasks(20, generator())
    assert tasks.support_x.shape == (20, 10, 1, 28, 28)
    assert tasks.query_y.shape == (20, 15)
    images = read_images(str(tiny_omniglot))
    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
        x, y = torch.cat((support_x, query_x)), torch.cat((support_y, query_y))
        characters = characters_of(x, images)
        assert len({(int(a), int(b)) for a, b in zip(characters, y, strict=True)}) == 5
        assert len(characters.unique()) == 5
        assert len(x.flatten(1).unique(dim=0)) == 25


def test_training_turns_characters_that_held_out_tasks_never_show(tiny_omniglot):
    images = read_images(str(tiny_omniglot))
    training = Omniglot(4, 1, 1, str(tiny_omniglot), seed=3)
    held_out = Omniglot(4, 1, 1, str(tiny_omniglot), seed=3, held_out=True)
    assert training.classes == 4 * 14
    assert held_out.classes == 6
    shown = held_out.sample_tasks(100, generator()).support_x.flatten(0, 1)
    apart = set(characters_of(shown, images).tolist())
    assert len(apart) == 6
    turned = torch.cat([torch.rot90(images, turn, (2, 3)) for turn in range(4)])
    seen = characters_of(training.sample_tasks(200, generator()).support_x.flatten(0, 1), turned)
    assert len(seen.unique()) == 4 * 14
    assert not apart & set((seen % 20).tolist())
    other = Omniglot(4, 1, 1, str(tiny_omniglot), seed=4, held_out=True)
    assert not torch.equal(other.images, held_out.images)


def test_every_class_comes_as_often_as_any_other(tiny_omniglot):
    held_out = Omniglot(3, 1, 1, str(tiny_omniglot), held_out=True)
    tasks = held_out.sample_tasks(1000, generator())
    found = characters_of(tasks.support_x.flatten(0, 1), held_out.images).view(1000, 3)
    for way in range(3):
        assert np.bincount(found[:, way], minlength=6) == pytest.approx(1000 / 6, rel=0.25)


def write_original(folder, characters, drawings=4):
    """Images as the original has them: 105 × 105, one bit, ink black, in set/Alphabet/characterNN."""
    image = pytest.importorskip("PIL.Image")
    chance, ink = np.random.default_rng(0), {}
    for number, name in enumerate(characters, 1):
        (folder / name).mkdir(parents=True)
        for drawing in range(1, drawings + 1):
            pixels = np.ones((105, 105), bool)
            pixels[chance.integers(80) :, 40:60] = False
            image.fromarray(pixels).save(folder / name / f"{number:04d}_{drawing:02d}.png")
            ink[name, drawing] = ~pixels
    return ink


ORIGINAL = (
    "images_background/Alphabet_of_the_Magi/character01",
    "images_background/Alphabet_of_the_Magi/character02",
    "images_background/Tifinagh/character01",
    "images_evaluation/Angelic/character01",
)


def test_a_folder_of_images_gives_what_its_packed_file_does(tmp_path):
    python = tmp_path / "evaluation" / "python"
    ink = write_original(python, ORIGINAL)
    (python / "strokes_background").mkdir()
    (python / "images_background" / "._0001_01.png").write_bytes(b"what macOS adds")
    images, names, background = read_folder(python)
    assert images.shape == (4, 4, 28, 28)
    assert names == [name.partition("/")[2] for name in ORIGINAL]
    assert background == [True, True, True, False]
    for number, name in enumerate(ORIGINAL):
        for drawing in range(4):
            # Ink is what is bright, where it was and as much of it.
            found, expected = images[number, drawing] / 255, ink[name, drawing + 1]
            assert found.mean() == pytest.approx(expected.mean(), abs=0.01)
            assert found[-1, 13] > 0.98
            assert found[:, :9].max() < 0.02
    assert read_folder(python / "images_evaluation")[2] == [False]
    command = [sys.executable, "-m", "trainers.tasks.omniglot", python, tmp_path / "packed.npz"]
    subprocess.run(command, check=True)
    packed = read_images(str(tmp_path / "packed.npz"))
    assert torch.equal(packed, torch.from_numpy(images))
    assert torch.equal(packed, read_images(str(python)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "images_background.zip").touch(), "unzip images_background.zip there"),
        (
            lambda folder: write_original(
                folder, [f"images_background{end}/Greek/character01" for end in ("", "_small1")]
            ),
            "Greek/character01 stands in images_background and in images_background_small1; leave one",
        ),
        (
            lambda folder: (
                write_original(folder, ["Greek/character01"]),
                write_original(folder, ["Greek/character02"], drawings=3),
            ),
            "character02 of Greek has 3 drawings: must be 4, as the others have",
        ),
        (
            lambda folder: (
                write_original(folder, ["Greek/character01"]),
                (folder / "Greek/character01/0001_02.png").write_bytes(b"GIF?"),
            ),
            "0001_02.png is not an image",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(tmp_path, spoil, said):
    spoil(tmp_path)
    with pytest.raises(TrainingError, match=rf"^data = {tmp_path}: .*{said}") as refusal:
        read_folder(tmp_path)
    assert "\n" not in str(refusal.value)


def test_without_data_the_program_says_where_it_lies(tmp_path):
    for data in ("", str(tmp_path / "no.npz"), str(tmp_path)):
        with pytest.raises(
            TrainingError, match=r"data .*https://github.com/brendenlake/omniglot .*--data FOLDER"
        ):
            trainer("omniglot", {"data": data}, **FEW)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": None}, "has no array images"),
        (
            {"images": np.zeros((20, 20, 28, 28), np.float32)},
            r"images are float32 \[20, 20, 28, 28\]: must be uint8",
        ),
        ({"images": np.zeros((20, 20, 105, 105), np.uint8)}, r"must be uint8 \[characters, 20, 28, 28\]"),
        ({"background": np.zeros(3, bool)}, "background has 3 rows: must be 20, as images has"),
        ({"characters": np.array([{}], object)}, "not a whole .npz file"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, changes, said):
    path = tmp_path / "wrong.npz"
    write_omniglot(path, 20, **changes)
    with pytest.raises(TrainingError, match=rf"data = .*wrong.npz: .*{said}"):
        trainer("omniglot", {"data": str(path)}, **FEW)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_said_to_be_one(tmp_path, tiny_omniglot, share):
    whole = tiny_omniglot.read_bytes()
    path = tmp_path / "truncated.npz"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(TrainingError, match=r"truncated.npz: not a whole .npz file") as refusal:
        trainer("omniglot", {"data": str(path)}, **FEW)
    assert "\n" not in str(refusal.value)


def test_more_shots_or_ways_than_there_are(tiny_omniglot):
    setup = {"data": str(tiny_omniglot)}
    with pytest.raises(
        TrainingError,
        match=r"^shots = 19: must be at most 18, as a class has 20 drawings and query_shots = 2$",
    ):
        trainer("omniglot", setup, **{**FEW, "shots": 19})
    with pytest.raises(TrainingError, match=r"ways = 7: must be at most 6, the held-out classes of "):
        trainer("omniglot", setup, **{**FEW, "ways": 7})
    maml = trainer("omniglot", setup, **FEW)
    with pytest.raises(InvalidValue, match=r"^shots = 30: must be at most 18, as a class has 20 drawings"):
        maml.change({"shots": 30})
    with pytest.raises(InvalidValue, match=r"^query_shots = 30: must be at most 19, .* and shots = 1$"):
        maml.change({"query_shots": 30})
    maml.change({"shots": 3})
    assert maml.step().fault is None


@pytest.mark.skipif(not REAL, reason="METARL_DATA does not name a packed Omniglot")
def test_the_real_data_set():
    training, held_out = (Omniglot(5, 1, 1, REAL, held_out=apart) for apart in (False, True))
    assert (training.classes, held_out.classes) == (4800, 423)
    maml = trainer(
        "omniglot", {"data": REAL}, hidden_sizes=(64,), inner_steps=1, eval_every=60, eval_tasks=60
    )
    rows = [maml.step().metrics for _ in range(60)]
    assert rows[-1]["meta_test/accuracy_post"] > 0.35 > 0.25 > rows[-1]["meta_test/accuracy_pre"]
