"""The recorded run of maml-ppo that ships: small, whole, steered twice, drawn and usable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metarl_tui.app.pictures import read_picture
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunFolder
from metarl_tui.tape_reading import read_tape
from trainers import load_meta_policy

SHIPPED = Path(__file__).parents[2] / "saved_runs"


@pytest.fixture(scope="module")
def navigation() -> RunFolder:
    return find_run(SHIPPED, "navigation")


def test_it_is_small_whole_and_steered_twice(navigation: RunFolder) -> None:
    size = sum(file.stat().st_size for file in navigation.path.rglob("*") if file.is_file())
    assert size < 1_500_000
    tape = read_tape(navigation)
    assert [set(marker.changes) for marker in tape.markers] == [{"inner_lr"}, {"clip_epsilon"}]
    assert tape.last == 100
    _, returns = tape.series("meta_test/return_post")
    assert returns[-1] > returns[0] + 20


def test_every_picture_of_it_can_be_drawn(navigation: RunFolder) -> None:
    records = [json.loads(line) for line in navigation.journal.read_text().splitlines()]
    pictures = [record["picture"] for record in records if record["kind"] == "picture"]
    assert len(pictures) == 51
    assert all(read_picture(picture) for picture in pictures)
    assert max(len(json.dumps(picture)) for picture in pictures) <= 4096


def test_its_policy_finds_a_goal_of_ones_own(navigation: RunFolder) -> None:
    before, _, after = load_meta_policy(navigation.path).adapt([0.4, 0.3], steps=2).returns
    assert before < -30
    assert after > -12
