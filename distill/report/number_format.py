"""How numbers and settings are written: percent with two digits, counts with k, M and G, settings in as few words as tell them apart."""

import math

from distill.evaluation.tables import BYTES, compact

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
        return compact(value, BYTES)
    if unit == "ms":
        return f"{value:.2f}" if like < 10 else f"{value:.1f}"
    if unit == "minutes":
        return f"{value:.1f}"
    return f"{value:,.0f}" if like >= 10 else f"{value:.2g}"


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


def cut(words: str, most: int = 28) -> str:
    """Return words that are too long for their place up to there, with an ellipsis."""
    return words if len(words) <= most else words[: most - 2].rstrip(" ·") + "…"


def full(value: object) -> str:
    """Return a setting with nothing left out, for what is sorted, searched and shown on hovering."""
    return value if isinstance(value, str) else str(value) if isinstance(value, list | dict) else plain(value, "")


def capital(words: str) -> str:
    """Return words as they begin a sentence."""
    return words[:1].upper() + words[1:]
