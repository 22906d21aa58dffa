"""Settings in TOML: what is read, and what is said of a file that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from metarl_tui.commands.resolve import resolve
from metarl_tui.config_file import ConfigError, read_config
from metarl_tui.runs.folder import RunConfig
from metarl_tui.runs.options import RunOptions
from trainers.declarations import InvalidValue
from trainers.hyperparameters import TRAINERS, PPOHyperparameters, PPOSetup
from trainers.presets import preset_for

PPO = TRAINERS["ppo"]
SETTINGS = (PPOSetup, PPOHyperparameters, RunOptions)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def resolved(tmp_path: Path, text: str) -> RunConfig:
    return resolve(PPO, {}, file=written(tmp_path, text))


def test_values_of_every_kind_are_read(tmp_path: Path) -> None:
    config = resolved(
        tmp_path,
        'env = "Acrobot-v1"\nname = "mine"\ngamma = 1\ntarget_kl = "off"\nhidden_sizes = [32, 32]\n'
        "normalize_rewards = true\npace = 20\nenv_arg = {gravity = 9.8}\n",
    )
    assert (config.subject, config.name, config.options["pace"]) == ("Acrobot-v1", "mine", 20.0)
    assert config.setup["env_arg"] == {"gravity": 9.8}
    chosen = config.hyperparameters
    assert (chosen["gamma"], chosen["target_kl"]) == (1.0, None)
    assert (chosen["hidden_sizes"], chosen["normalize_rewards"]) == ([32, 32], True)


def test_changes_are_planned_in_order(tmp_path: Path) -> None:
    config = resolved(
        tmp_path,
        "[[change]]\niteration = 90\nepochs = 8\n"
        "[[change]]\niteration = 50\nclip_epsilon = 0.1\ntarget_kl = 0.02\n",
    )
    assert config.changes == [
        {"iteration": 50, "clip_epsilon": 0.1, "target_kl": 0.02},
        {"iteration": 90, "epochs": 8},
    ]


def test_options_of_the_run_can_be_planned_too(tmp_path: Path) -> None:
    config = resolved(
        tmp_path,
        'pace = 5\n[[change]]\niteration = 9\npace = "off"\nepochs = 8\n'
        '[[change]]\niteration = 10\non_nan = "stop"\n',
    )
    assert config.options["pace"] == 5.0
    assert config.changes == [
        {"iteration": 9, "pace": None, "epochs": 8},
        {"iteration": 10, "on_nan": "stop"},
    ]


def test_a_plan_is_checked_with_the_values_in_force_then(tmp_path: Path) -> None:
    sizes = "num_envs = 8\nrollout_steps = 100\nminibatch_size = 800\n"
    text = sizes + "[[change]]\niteration = 5\nminibatch_size = {}\n"
    assert resolved(tmp_path, text.format(400)).changes == [{"iteration": 5, "minibatch_size": 400}]
    with pytest.raises(ConfigError, match="iteration 5: minibatch_size = 512: must divide"):
        resolved(tmp_path, text.format(512))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gama = 0.9", "gama = 0.9: no such setting; did you mean gamma"),
        ("gamma = 1.2", "gamma = 1.2: must be a number from 0 to 1"),
        ('gamma = "much"', "gamma = much: must be a number"),
        ("epochs = 4\ngamma = \n", "is not TOML: .*line 2"),
        ("qqqqqq = 1", "qqqqqq = 1: no such setting$"),
        ("[ppo]\ngamma = 0.9", "tables are not used, but for .*; write the keys at the top level$"),
        ("[[ppo]]\ngamma = 0.9", "tables are not used"),
        (
            "[[change]]\niteration = 5\npaused = true",
            "at iteration 5: paused = true: can't change during a run",
        ),
        ("[[change]]\niteration = 5\npace = -1", "at iteration 5: pace = -1: must be"),
        ("[change]\niteration = 5", "double brackets"),
        ("[[change]]\nclip_epsilon = 0.1", "iteration is missing"),
        ("[[change]]\niteration = 0\nclip_epsilon = 0.1", "iteration = 0: must be a whole number at least 1"),
        ("[[change]]\niteration = 5", "nothing is changed"),
        ("[[change]]\niteration = 5\nclip_epsilon = 0", "at iteration 5: clip_epsilon = 0: must be"),
        (
            "[[change]]\niteration = 5\nnum_envs = 8",
            "at iteration 5: num_envs = 8: can't change during a run",
        ),
        ("[[change]]\niteration = 5\nclip_epsilom = 1", "no such setting; did you mean clip_epsilon"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolved(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "run.toml"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml: No such file"):
        read_config(tmp_path / "no.toml", SETTINGS)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_config(tmp_path / "binary.toml", SETTINGS)


def test_flag_goes_before_file_before_preset_before_default(tmp_path: Path) -> None:
    preset = preset_for("ppo", "CartPole-v1")
    assert preset is not None
    file = written(tmp_path, "gamma = 0.5\nclip_epsilon = 0.3\n")
    config = resolve(PPO, {"clip_epsilon": 0.4}, file=file).hyperparameters
    assert (config["clip_epsilon"], config["gamma"]) == (0.4, 0.5)
    assert config["learning_rate"] == preset.hyperparameters["learning_rate"]
    assert config["entropy_coef"] == PPOHyperparameters().entropy_coef


def test_preset_is_that_of_the_environment_that_asked_for_or_none() -> None:
    default = PPOHyperparameters().learning_rate
    of_cartpole = resolve(PPO, {}).hyperparameters["learning_rate"]
    assert of_cartpole != default
    assert resolve(PPO, {"env": "my.module:Env"}).hyperparameters["learning_rate"] == default
    assert resolve(PPO, {}, preset="none").hyperparameters["learning_rate"] == default
    asked = resolve(PPO, {"env": "my.module:Env"}, preset="cartpole")
    assert asked.hyperparameters["learning_rate"] == of_cartpole
    with pytest.raises(InvalidValue, match=r"preset = pole: must be one of .*cartpole"):
        resolve(PPO, {}, preset="pole")


def test_repeated_arguments_become_one_mapping() -> None:
    config = resolve(PPO, {"env_arg": ({"gravity": 9.8}, {"sutton_barto_reward": True})})
    assert config.setup["env_arg"] == {"gravity": 9.8, "sutton_barto_reward": True}


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "‮", "x" * 81, "latest"])
def test_names_that_could_mislead_are_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match="name = "):
        resolve(PPO, {}, name=name)


def test_environment_with_escapes_is_refused() -> None:
    with pytest.raises(InvalidValue, match="env = CartPole: must be printable text"):
        resolve(PPO, {"env": "Cart\x1b]0;x\x07Pole"})
