"""Values as one types them: YAML."""

import yaml

from distill.system.errors import ConfigError


def as_yaml(key: str, text: str) -> object:
    """Return a value that was typed as YAML has it: false, 3, [a, b].

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(key, f"{text[:200]!r} cannot be read. Close brackets and quotes.") from None


def as_typed(value: object) -> str:
    """Return a value as one types it: null, true and numbers bare, words in quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_typed(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_typed, value)) + "]"
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
