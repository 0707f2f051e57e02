"""How numbers and settings are written: percent with two digits, counts with k, M and G, settings in as few words as tell them apart."""

import math

NOTHING = "\N{EN DASH}"


def show(column, value: float | None, spread: float | None = None) -> str:
    """Return a cell of the table: mean ± sample standard deviation in the column's unit."""
    if value is None:
        return NOTHING
    more = "" if spread is None or not math.isfinite(spread) else f" ± {amount(column.unit, spread, value)}"
    return amount(column.unit, value, value) + more


def amount(unit: str, value: float, like: float) -> str:
    """Return a number in a unit, rounded as another number of its column would be."""
    if unit == "percent":
        return f"{100 * value:.2f}"
    if unit == "count":
        return compact(value)
    if unit == "bytes":
        return compact(value, (" B", " kB", " MB", " GB"))
    if unit == "ms":
        return f"{value:.2f}" if like < 10 else f"{value:.1f}"
    if unit == "minutes":
        return f"{value:.1f}"
    return f"{value:,.0f}" if like >= 10 else f"{value:.2g}"


def compact(value: float, units: tuple[str, ...] = ("", "k", "M", "G")) -> str:
    """Return a number with three significant digits and a unit of thousands: 65.0k, 2.85M."""
    k = 0
    while abs(value) >= 999.5 and k < len(units) - 1:
        value, k = value / 1000, k + 1
    digits = 0 if k == 0 and float(value).is_integer() else max(0, 3 - len(str(int(abs(value)))))
    return f"{value:.{digits}f}{units[k]}"


def tick(value: float, units: tuple[str, ...] = ("", "k", "M", "G")) -> str:
    """Return a round number as an axis shows it: 300k, 1M, 1.5M."""
    words = compact(value, units)
    number = words.rstrip("".join(units))
    return f"{float(number):g}{words[len(number) :]}"


def plain(value: object, nothing: str = NOTHING) -> str:
    """Return a setting as one would type it; of a path its last part."""
    if value is None:
        return nothing
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(plain(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {plain(v)}" for k, v in value.items()) + "}"
    return str(value).rstrip("/").rsplit("/", 1)[-1]


def value_words(key: str, value: object) -> str:
    """Return a setting in words: cern, no teacher, temperature 4."""
    if (key, value) == ("teacher", "none"):
        return "no teacher"
    return plain(value) if key in ("student", "loss", "data") else f"{short_key(key)} {plain(value)}"


def fewer_words(key: str, value: object) -> str:
    """Return a setting in words, without its key where a name stands for itself: first, XXS, but temperature 4."""
    return value if isinstance(value, str) and "/" not in value and key != "teacher" else value_words(key, value)


def short_key(key: str) -> str:
    """Return a dotted key without its group, unless that is needed to understand it."""
    parts = key.split(".")
    if len(parts) > 1 and parts[0] == "teacher":
        return "teacher " + parts[-1]
    if parts[-1] in ("weight", "form", "target", "cached", "seed", "name") and len(parts) > 1:
        return f"{parts[-2]} {parts[-1]}"
    return parts[-1].replace("_", " ")
