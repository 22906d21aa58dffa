"""One declaration per setting: default, range, scale, symbol, help, and when it may change.

From a declaration come the command-line flag, ``--help``, the steer panel, the error message and the
README's table, so that no limit is written twice. A settings class is a dataclass whose fields are made
by :func:`declare`; :func:`declarations` reads them back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias, TypeVar

Value: TypeAlias = bool | int | float | str | tuple[int, ...] | tuple[str, ...] | dict[str, Any] | None
Kind: TypeAlias = Literal["int", "float", "bool", "choice", "text", "ints", "names", "arguments"]
Changes: TypeAlias = Literal["live", "fork", "never"]
Settings = TypeVar("Settings")

_OFF = ("off", "none", "null")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class InvalidValue(ValueError):
    """A value that a setting does not take; the message names field, value and what is allowed."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        self.name, self.value, self.allowed = name, value, allowed
        shown = value if isinstance(value, str) else format_value(value)
        super().__init__(f"{name} = {shown or repr(shown)}: {allowed}")


@dataclass(frozen=True)
class Declaration:
    """What can be said of one setting.

    ``changes`` tells when it may change: ``"live"`` from one iteration to the next, ``"fork"`` only in a
    new run that starts from a checkpoint of this one, ``"never"`` only in a new run. An ``optional``
    setting takes ``None``, written ``off``.
    """

    name: str
    kind: Kind
    default: Value
    help: str
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    scale: Literal["linear", "log"] = "linear"
    step: float | None = None
    symbol: str = ""
    optional: bool = False
    choices: tuple[str, ...] = ()
    changes: Changes = "live"

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def allowed(self) -> str:
        """What is allowed, in words: ``a number above 0 and at most 1, or off``."""
        match self.kind:
            case "choice":
                words = "one of " + ", ".join(self.choices)
            case "names":
                words = f"a comma-separated choice of {', '.join(self.choices)}, each at most once"
            case "bool":
                words = "true or false"
            case "text":
                words = "text"
            case "arguments":
                words = "KEY=VALUE"
            case "ints":
                words = "comma-separated whole numbers" + self._range_words()
            case "int":
                words = "a whole number" + self._range_words()
            case "float":
                words = "a number" + self._range_words()
        return words + (", or off" if self.optional else "")

    def _range_words(self) -> str:
        low, high = (
            format(limit, "g") if isinstance(limit, float) else str(limit)
            for limit in (self.minimum, self.maximum)
        )
        inclusive = not (self.exclusive_minimum or self.exclusive_maximum)
        if self.minimum is not None and self.maximum is not None and inclusive:
            return f" from {low} to {high}"
        words = []
        if self.minimum is not None:
            words.append(f"{'above' if self.exclusive_minimum else 'at least'} {low}")
        if self.maximum is not None:
            words.append(f"{'below' if self.exclusive_maximum else 'at most'} {high}")
        return " " + " and ".join(words) if words else ""

    def parse(self, text: str) -> Value:
        """The value that ``text`` stands for. Raises :class:`InvalidValue`."""
        text = text.strip()
        if self.optional and text.lower() in _OFF:
            return None
        try:
            match self.kind:
                case "int":
                    return self.check(_whole(text))
                case "float":
                    return self.check(float(text))
                case "bool":
                    if text.lower() not in _TRUE + _FALSE:
                        raise ValueError
                    return text.lower() in _TRUE
                case "ints":
                    return self.check(
                        tuple(_whole(part) for part in text.strip("[]()").split(",") if part.strip())
                    )
                case "names":
                    return self.check(
                        tuple(part.strip() for part in text.strip("[]()").split(",") if part.strip())
                    )
                case "arguments":
                    return dict([_argument(text)])
                case _:
                    return self.check(text)
        except InvalidValue:
            raise
        except ValueError:
            raise InvalidValue(self.name, text, f"must be {self.allowed}") from None

    def check(self, value: object) -> Value:
        """``value`` as this setting holds it (JSON lists become tuples). Raises :class:`InvalidValue`."""
        if value is None and self.optional:
            return None
        refusal = InvalidValue(self.name, value, f"must be {self.allowed}")
        match self.kind:
            case "bool":
                if isinstance(value, bool):
                    return value
            case "int":
                if isinstance(value, float) and value.is_integer():
                    value = int(value)
                if isinstance(value, int) and not isinstance(value, bool) and self._in_range(value):
                    return value
            case "float":
                if isinstance(value, int | float) and not isinstance(value, bool) and self._in_range(value):
                    with contextlib.suppress(OverflowError):
                        return float(value)
            case "choice":
                if isinstance(value, str) and value in self.choices:
                    return value
            case "text":
                if isinstance(value, str):
                    return value
            case "ints":
                if isinstance(value, list | tuple) and all(
                    isinstance(item, int) and not isinstance(item, bool) and self._in_range(item)
                    for item in value
                ):
                    return tuple(value)
            case "names":
                if isinstance(value, list | tuple) and all(item in self.choices for item in value):
                    chosen = tuple(value)
                    if len(set(chosen)) == len(chosen):
                        return chosen
            case "arguments":
                if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
                    return dict(value)
        raise refusal

    def _in_range(self, number: float) -> bool:
        # Only of floats: a whole number too large for one raises here.
        if isinstance(number, float) and not math.isfinite(number):
            return False
        if self.minimum is not None and (
            number < self.minimum or (self.exclusive_minimum and number == self.minimum)
        ):
            return False
        return not (
            self.maximum is not None
            and (number > self.maximum or (self.exclusive_maximum and number == self.maximum))
        )

    def nudge(self, value: Value, direction: Literal[-1, 1]) -> Value:
        """The next value up or down, in a step fit for the scale; ``value`` itself where there is none.

        Log scales go through 1, 2, 5, 10, …; whole numbers on a log scale double and halve; choices and
        booleans go round. ``off`` steps to the default or, without one, to the smallest allowed value.
        """
        if self.kind == "bool":
            return not value
        if self.kind == "choice" and isinstance(value, str):
            return self.choices[(self.choices.index(value) + direction) % len(self.choices)]
        if self.kind not in ("int", "float"):
            return value
        if value is None:
            return self.check(self.step) if direction > 0 and self.step is not None else None
        if not isinstance(value, int | float):
            return value
        number = self._next_number(value, direction)
        if self._in_range(number):
            return self.check(number)
        return None if self.optional and direction < 0 else value

    def _next_number(self, number: float, direction: int) -> float:
        if self.kind == "int":
            if self.scale == "log":
                return number * 2 if direction > 0 else number // 2
            return number + direction * int(self.step or 1)
        if self.scale == "log" and number > 0:
            return _next_125(number, direction)
        step = self.step or 0.1
        return round(round(number / step) * step + direction * step, 10)


def declare(
    kind: Kind,
    default: Value,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    scale: Literal["linear", "log"] = "linear",
    step: float | None = None,
    symbol: str = "",
    optional: bool = False,
    choices: tuple[str, ...] = (),
    changes: Changes = "live",
) -> Any:
    """A dataclass field that carries its declaration. ``above`` and ``below`` are exclusive limits."""
    declaration = Declaration(
        name="",
        kind=kind,
        default=default,
        help=help,
        minimum=above if above is not None else minimum,
        maximum=below if below is not None else maximum,
        exclusive_minimum=above is not None,
        exclusive_maximum=below is not None,
        scale=scale,
        step=step,
        symbol=symbol,
        optional=optional,
        choices=choices,
        changes=changes,
    )
    metadata = {"declaration": declaration}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def declarations(settings: type) -> dict[str, Declaration]:
    """Every setting that the dataclass ``settings`` declares, by name, in order."""
    return _declarations(settings)


@cache
def _declarations(settings: Hashable) -> dict[str, Declaration]:
    assert isinstance(settings, type)
    assert dataclasses.is_dataclass(settings)
    return {
        field.name: dataclasses.replace(field.metadata["declaration"], name=field.name)
        for field in dataclasses.fields(settings)
    }


def make_settings(kind: type[Settings], values: Mapping[str, object]) -> Settings:
    """An instance of ``kind`` from checked ``values``; what is not named keeps its default.

    Raises :class:`InvalidValue` for an unknown name (with the nearest known one), a value outside its
    range, or values that do not fit each other.
    """
    known = declarations(kind)
    return kind(**{name: declaration_of(known, name, value).check(value) for name, value in values.items()})


def declaration_of(known: Mapping[str, Declaration], name: str, value: object = "…") -> Declaration:
    """The declaration called ``name``, which is to have ``value``.

    Raises :class:`InvalidValue` with the nearest known names, or the one whose symbol it is.
    """
    if name in known:
        return known[name]
    near = [declaration.name for declaration in known.values() if declaration.symbol == name]
    near = near or difflib.get_close_matches(name.replace("-", "_"), known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise InvalidValue(name, value, f"no such setting{hint}")


def as_json(settings: Any) -> dict[str, Any]:
    """The settings as JSON values (tuples become lists)."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name in declarations(type(settings))
        for value in (getattr(settings, name),)
    }


def format_value(value: object) -> str:
    """How a value is written everywhere: ``off``, ``true``, ``64,64``, ``2.5e-4``, ``3000000``."""
    match value:
        case None:
            return "off"
        case bool():
            return "true" if value else "false"
        case float():
            return format_number(value)
        case list() | tuple():
            return ",".join(format_value(item) for item in value) or "(none)"
        case dict():
            return " ".join(f"{key}={format_value(item)}" for key, item in value.items()) or "(none)"
        case _:
            return str(value)


def format_number(number: float) -> str:
    """Up to six digits, without a padded exponent: ``0.1``, ``2.5e-4``, ``1.2e+07``."""
    text = f"{number:.6g}"
    if abs(number) < 0.001 and number and math.isfinite(number):
        mantissa, _, exponent = f"{number:.5e}".partition("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return text


def _whole(text: str) -> int:
    try:
        return int(text)  # exact beyond 2⁵³, where floats are not
    except ValueError:
        number = float(text)  # 1e6
        if not number.is_integer():
            raise
        return int(number)


def _argument(text: str) -> tuple[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise ValueError
    for read in (int, float):
        try:
            return key.strip(), read(raw)
        except ValueError:
            continue
    return key.strip(), {"true": True, "false": False, "none": None}.get(raw.strip().lower(), raw)


def _next_125(number: float, direction: int) -> float:
    exponent = math.floor(math.log10(number))
    series = sorted(
        float(f"{digit}e{power}") for power in range(exponent - 1, exponent + 2) for digit in (1, 2, 5)
    )
    if direction > 0:
        return next(item for item in series if item > number * (1 + 1e-9))
    return next(item for item in reversed(series) if item < number * (1 - 1e-9))
