"""What may be given for a loss's options: values of the kind that its constructor names, and ramps of numbers alone."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature

from distill.losses.base.ramps import is_ramp, ramp
from distill.system.errors import ConfigError, expect
from distill.system.typed import as_typed, described, fits


def check_options(key: str, make: Callable, given: Mapping[str, object]) -> None:
    """Check a loss's options by the annotations of what makes it; what has none is not checked.

    Args:
        key: of the loss, such as loss.kd.
        make: its class.
        given: option -> value, or its ramp over epochs.

    Raises:
        ConfigError: an option that does not exist, a value of another kind, or a ramp of what is no number with fractions.
    """
    known = signature(make).parameters
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = [
        name for name, option in known.items() if option.default is Parameter.empty and option.kind not in variadic
    ]
    if missing := [name for name in needed if name not in given]:
        raise ConfigError(
            f"{key}.{missing[0]}",
            f"has no value. Give it one in conf/loss/{key.rsplit('.', 1)[-1]}.yaml; weight is no option of a class.",
        )
    for name, value in given.items():
        if name in known:
            where, kind, default = f"{key}.{name}", known[name].annotation, known[name].default
            such = f", such as {default}" if type(default) in (int, float, str) else ""
            ends = [value]
            if is_ramp(value):
                if not fits(0.5, kind):
                    raise ConfigError(
                        where, f"{described(kind)} cannot follow a ramp over epochs; give one value{such}."
                    )
                made = ramp(value, where)
                ends = [made.first, made.last]
            for end in ends:
                expect(fits(end, kind), where, f"{described(kind)}{such}", as_typed(end))
        elif not any(word.kind is Parameter.VAR_KEYWORD for word in known.values()):
            raise ConfigError(key, f"there is no option {name!r}. Choose from {', '.join(known)}.")
