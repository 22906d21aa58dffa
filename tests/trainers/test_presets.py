"""Presets: found by environment or name, and each a set of valid hyperparameters."""

import pytest

from trainers.declarations import InvalidValue, declarations, make_settings
from trainers.hyperparameters import TRAINERS
from trainers.presets import PRESETS, find_preset, preset_for


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_is_valid_and_names_its_source(preset):
    kind = TRAINERS[preset.trainer].hyperparameters
    assert make_settings(kind, preset.hyperparameters)
    assert set(preset.hyperparameters) <= set(declarations(kind))
    assert preset.source
    assert find_preset(preset.trainer, preset.name) is preset
    assert all(preset_for(preset.trainer, env) is preset for env in preset.environments)


def test_no_two_presets_claim_a_name_or_an_environment():
    names = [(preset.trainer, preset.name) for preset in PRESETS]
    environments = [(preset.trainer, env) for preset in PRESETS for env in preset.environments]
    assert len(set(names)) == len(names)
    assert len(set(environments)) == len(environments)


def test_unknown_ones():
    assert preset_for("ppo", "Taxi-v3") is None
    with pytest.raises(InvalidValue, match="preset = atari: must be one of cartpole, "):
        find_preset("ppo", "atari")


def test_the_cartpole_preset_solves_cartpole_within_200k_steps():
    from trainers.hyperparameters import PPOHyperparameters, PPOSetup
    from trainers.ppo import PPO

    hyperparameters = {**find_preset("ppo", "cartpole").hyperparameters, "until": 475.0, "eval_every": None}
    ppo = PPO(PPOSetup(), make_settings(PPOHyperparameters, hyperparameters))
    events = []
    while not ppo.finished and ppo.progress.done < 200_000:
        events += ppo.step().events
    assert "until = 475" in ppo.finished
    assert "threshold 475" in events[0]
