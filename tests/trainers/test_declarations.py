"""What settings accept, refuse, and say about it."""

import pytest

from trainers.declarations import (
    Declaration,
    InvalidValue,
    declaration_of,
    declarations,
    make_settings,
)
from trainers.hyperparameters import PPOHyperparameters, PPOSetup

PPO = declarations(PPOHyperparameters)
SEED = declarations(PPOSetup)["seed"]


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1])
def test_whole_numbers_are_exact(number):
    assert SEED.parse(str(number)) == number
    assert SEED.check(number) == number


@pytest.mark.parametrize("text", ["1e6", "1_000_000", " 1000000 ", "1000000.0"])
def test_whole_numbers_as_people_write_them(text):
    assert PPO["total_steps"].parse(text) == 1_000_000


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "total_steps",
            "1e18",
            "total_steps = 1000000000000000000: must be a whole number from 1 to 1000000000000000",
        ),
        ("total_steps", "9" * 400, "must be a whole number from 1 to 1000000000000000"),
        ("num_envs", "100000", "num_envs = 100000: must be a whole number from 1 to 65536"),
        ("rollout_steps", "1", "rollout_steps = 1: must be a whole number from 2 to 1000000"),
        (
            "minibatch_size",
            "1e10",
            "minibatch_size = 10000000000: must be a whole number from 2 to 2147483648",
        ),
        ("minibatch_size", "1.5", "minibatch_size = 1.5: must be a whole number from 2 to"),
        ("minibatch_size", "inf", "minibatch_size = inf: must be a whole number from 2 to"),
        ("gamma", "1.2", "gamma = 1.2: must be a number from 0 to 1"),
        ("gamma", "nan", "gamma = nan: must be a number from 0 to 1"),
        ("learning_rate", "0", "learning_rate = 0: must be a number above 0 and at most 10"),
        ("hidden_sizes", "64,70000", "must be comma-separated whole numbers from 1 to 65536"),
        ("annealed", "learning_rate,learning_rate", "clip_epsilon, each at most once"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(name, text, said):
    with pytest.raises(InvalidValue) as refusal:
        PPO[name].parse(text)
    assert said in str(refusal.value)


def test_the_limits_of_a_seed_are_said_in_full():
    with pytest.raises(InvalidValue, match="seed = -1: must be a whole number from 0 to 9223372036854775807"):
        SEED.parse("-1")


@pytest.mark.parametrize(
    "name", ["total_steps", "num_envs", "gamma", "learning_rate", "until", "value_clip_epsilon"]
)
def test_numbers_beyond_any_float_are_refused(name):
    for number in (10**400, -(10**400)):
        with pytest.raises(InvalidValue, match=f"{name} = "):
            PPO[name].check(number)


@pytest.mark.parametrize("kind", ["int", "ints"])
def test_every_whole_number_has_limits(kind):
    for settings in (PPOSetup, PPOHyperparameters):
        for declaration in declarations(settings).values():
            if declaration.kind == kind:
                assert isinstance(declaration.minimum, int), declaration.name
                assert isinstance(declaration.maximum, int), declaration.name


def test_nudging_stops_at_the_limits():
    assert PPO["num_envs"].nudge(65_536, 1) == 65_536
    assert PPO["minibatch_size"].nudge(2, -1) == 2
    assert PPO["total_steps"].nudge(1000, 1) == 2000


def test_a_names_value_keeps_its_order():
    both = ("clip_epsilon", "learning_rate")
    assert make_settings(PPOHyperparameters, {"annealed": list(both)}).annealed == both
    assert Declaration("any", "names", (), "", choices=("a", "b")).check([]) == ()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gama", "gama = 0.9: no such setting; did you mean gamma"),
        ("ε", "ε = 0.9: no such setting; did you mean clip_epsilon?"),
        ("qqqqqq", "qqqqqq = 0.9: no such setting"),
    ],
)
def test_an_unknown_name_is_told_with_its_value_and_what_is_near(name, said):
    with pytest.raises(InvalidValue) as refusal:
        declaration_of(declarations(PPOHyperparameters), name, "0.9")
    assert str(refusal.value).startswith(said)
