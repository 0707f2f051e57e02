"""What is typed behind python -m distill.run -m, spread out into jobs as hydra does it."""

from collections import OrderedDict
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def spread(words: list[str]) -> tuple[list[list[str]], list[str]] | None:
    """Return the words of every job of a sweep, in the order of hydra's own sweeper, and the keys that are swept over.

    Args:
        words: the command line without the program; flags and what is meant for hydra itself are passed over.

    Returns:
        (jobs, swept keys), or None where only hydra can tell (globs over a group's choices, words that do not parse).
    """
    own = [word for word in words if not word.startswith(("-", "hydra.", "hydra/", "+hydra", "~hydra"))]
    choices: OrderedDict[str, list[str]] = OrderedDict()
    swept = []
    try:
        for override in OverridesParser.create().parse_overrides(own):
            key = override.get_key_element()
            if override.is_sweep_override():
                choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
                swept.append(key)
            else:
                choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    except HydraException:
        return None
    return [list(job) for job in product(*choices.values())], swept
