"""A mistake in a config: which key, and what to type instead."""


class ConfigError(ValueError):
    """A value that its key cannot have; as text, KEY: MESSAGE.

    Args:
        key: as it is typed, such as train.epochs.
        message: what was expected, what was given, what to type.
    """

    def __init__(self, key: str, message: str):
        super().__init__(key, message)
        self.key, self.message = key, message

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


def expect(fine: object, key: str, wanted: str, given: object) -> None:
    """Refuse a value of a key that is not fine: say what was expected, and what was given.

    Raises:
        ConfigError: it is not.
    """
    if not fine:
        raise ConfigError(key, f"expected {wanted}, got {given}.")
