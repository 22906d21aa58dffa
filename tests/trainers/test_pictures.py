"""Pictures: small, plain JSON, and of what the learner really does."""

import json
import math

import pytest
from maml_runs import trainer

from trainers.adaptation import adapt


def drawn(maml, iterations=1):
    rows = [maml.step() for _ in range(iterations)]
    (picture,) = rows[-1].pictures
    assert len(json.dumps(picture)) <= 4096
    return picture


def test_regions_become_those_of_the_support_points():
    values = {"hidden_sizes": (40, 40), "inner_steps": 5, "meta_batch_size": 16, "outer_lr": 3e-3}
    picture = drawn(trainer(picture_every=200, **values), 200)
    assert picture["type"] == "regions"
    assert len(picture["support"]) == 20
    (left, right), (bottom, top) = picture["x"], picture["y"]
    rows, columns = len(picture["after"]), len(picture["after"][0])
    assert {len(row) for row in picture["before"]} == {columns}
    hits = {"before": 0, "after": 0}
    for x, y, label in picture["support"]:
        row, column = int((top - y) / (top - bottom) * rows), int((x - left) / (right - left) * columns)
        for when in hits:
            hits[when] += (int(picture[when][row][column], 16) > 7) == label
    assert hits["after"] >= 19
    assert hits["before"] <= 15
    assert picture["loss"][1] < picture["loss"][0]


def test_a_curve_is_the_true_one_and_the_fits():
    picture = drawn(trainer("sinusoid", picture_every=1))
    assert picture["type"] == "curve"
    assert len(picture["x"]) == len(picture["true"]) == len(picture["before"]) == len(picture["after"]) == 64
    assert picture["x"] == sorted(picture["x"])
    assert len(picture["support"]) == 10
    assert picture["steps"] == 10
    amplitude = max(map(abs, picture["true"]))
    assert any(math.isclose(abs(y), amplitude, rel_tol=0.05) for y in picture["true"])


def test_a_picture_shows_the_adaptation_that_held_out_tasks_get():
    maml = trainer(picture_every=1, inner_steps=1, eval_inner_steps=3, eval_inner_lr=0.4)
    picture = drawn(maml)
    maml.change({"eval_inner_steps": 7})
    changed = drawn(maml)
    went = adapt(maml.inner_loop(evaluating=True), maml.parameters, maml.illustrator._tasks)
    assert (picture["steps"], changed["steps"]) == (3, 7)
    assert changed["loss"] == [pytest.approx(float(went.losses[at, 0]), rel=0.01) for at in (0, 7)]


@pytest.mark.parametrize("ways", [3, 5])
def test_glyphs_are_bitmaps_with_their_classes(tiny_omniglot, ways):
    maml = trainer("omniglot", {"data": str(tiny_omniglot)}, ways=ways, picture_every=1)
    picture = drawn(maml)
    assert picture["type"] == "glyphs"
    assert len(picture["support"]) == len(picture["query"]) == len(picture["after"]) == ways
    assert picture["classes"] == list(range(ways))
    assert {len(bitmap) for bitmap in picture["support"]} == {28 * 28 // 4}
    image = maml.illustrator._tasks.support_x[0, 0, 0]
    bits = "".join(f"{int(digit, 16):04b}" for digit in picture["support"][0])
    assert [bit == "1" for bit in bits] == (image > 0.4).flatten().tolist()


def test_pictures_are_paced_and_always_of_the_same_task():
    maml = trainer(picture_every=3)
    rows = [maml.step() for _ in range(6)]
    assert [bool(row.pictures) for row in rows] == [True, False, True, False, False, True]
    assert rows[0].pictures[0]["support"] == rows[5].pictures[0]["support"]
    assert trainer(picture_every=None).step().pictures == ()


def test_other_tasks_have_no_picture(tmp_path, monkeypatch):
    (tmp_path / "plain_tasks.py").write_text(
        "import torch\nclass Plain:\n    def sample_tasks(self, n, generator):\n"
        "        return tuple(torch.rand(n, 4, size, generator=generator) for size in (3, 2, 3, 2))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert trainer("plain_tasks:Plain", picture_every=1).step().pictures == ()
