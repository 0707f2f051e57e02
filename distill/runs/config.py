"""What a run is asked to be: config.yaml, its only reader and writer."""

import re
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from distill.runs.result_schema import CONFIG, unlike
from distill.system.files import write_text

COMPONENTS = ("student", "teacher", "loss", "data", "optimizer", "schedule")


@dataclass
class TrainConfig:
    """Keys under train: how a network is trained; conf/train/default.yaml and conf/run.yaml say what each is."""

    epochs: int
    min_steps: int | None
    batch_size: int
    monitor: str
    precision: str
    max_grad_norm: float | None
    ema_decay: float
    class_balance_power: float
    mixup: float
    log_every_n_steps: int
    threads: int | None
    device: str
    compile: bool


@dataclass
class AugmentConfig:
    """Keys under augment: the ranges of augmentation; conf/augment/default.yaml says what each is."""

    seed: int
    num_views: int
    rotate: float
    scale_min: float
    scale_max: float
    shift: float
    shear: float
    flip: float
    brightness: float
    contrast: float
    erase: float
    erase_min: float
    erase_max: float
    autoaugment: bool


@dataclass
class EvalConfig:
    """Keys under eval: what is measured at the end; conf/run.yaml says what each is."""

    tta: str
    robustness: list[str]
    severities: list[int]
    cka: bool


@dataclass
class CheckpointConfig:
    """Keys under checkpoint; conf/run.yaml says what each is."""

    every_steps: int


@dataclass
class PathsConfig:
    """Keys under paths: where what is shared and what is of one run lies."""

    store: str
    runs: str
    run: str | None


@dataclass
class RunConfig:
    """The keys of a run; a component, such as student, is the dict of its own yaml's keys, which its constructor checks."""

    seed: int
    generations: int
    plugins: list[str]
    data: Any
    teacher: Any
    student: Any
    loss: Any
    phases: Any
    optimizer: Any
    schedule: Any
    logger: Any
    train: TrainConfig
    augment: AugmentConfig
    eval: EvalConfig
    checkpoint: CheckpointConfig
    paths: PathsConfig
    experiment: Any = None
    debug: Any = None
    launcher: Any = None

    @property
    def components(self) -> dict[str, Any]:
        """The components that say what is learned, by their keys."""
        return {key: getattr(self, key) for key in COMPONENTS}

    @property
    def is_several(self) -> bool:
        """Whether it is made of several runs."""
        return self.data.get("fold") == "all" or self.generations > 1

    @classmethod
    def from_dict(cls, given: dict) -> "RunConfig":
        """Return the config that plain dicts hold; what an older one does not say is as conf/ has it.

        Raises:
            TypeError: a key that no run has.
        """
        usual, known = _defaults(), {field.name for field in fields(cls)}
        values: dict[str, Any] = {key: value for key, value in usual.items() if key in known} | given
        groups = {key: kind(**usual[key] | given.get(key, {})) for key, kind in _groups().items()}
        return cls(**values | groups)

    @classmethod
    def read(cls, file: Path) -> "RunConfig":
        """Read the config of a run folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file was damaged since, or has a key that no run has.
        """
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            if problem := unlike(content, CONFIG) if isinstance(content, dict) else "is no mapping":
                raise ValueError(problem)
            made = cls.from_dict(content)
            members = {"teacher.members": dict[str, dict]} if "members" in made.teacher else {}
            if problem := unlike(vars(made) | {key: vars(getattr(made, key)) for key in _groups()}, _types() | members):
                raise ValueError(problem)
            return made
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{file.parent}: no run folder, it has no config.yaml. Give the run folder that a run's table ends with."
            ) from None
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError, yaml.YAMLError) as error:
            why = re.sub(
                r"\w+\.__init__\(\) got an unexpected keyword argument", "this version knows no key", str(error)
            )
            raise ValueError(
                f"{file}: damaged, or no config of a run ({' '.join(why.split())}). Bring it back as it was, or delete the "
                "folder and train again."
            ) from error

    def write(self, file: Path) -> None:
        """Write it."""
        write_text(file, yaml.safe_dump(asdict(self), allow_unicode=True, sort_keys=False))


@cache
def _groups() -> dict[str, Any]:
    return {field.name: field.type for field in fields(RunConfig) if is_dataclass(field.type)}


@cache
def _types() -> dict[str, Any]:
    """Return the type of each key that has one, by its dotted name."""
    single = {field.name: field.type for field in fields(RunConfig) if field.type in (int, list[str])}
    return single | {f"{group}.{field.name}": field.type for group, kind in _groups().items() for field in fields(kind)}


@cache
def _defaults() -> dict[str, Any]:
    names = ("run", "train/default", "augment/default")
    run, train, augment = (
        yaml.safe_load((files("conf") / f"{name}.yaml").read_text(encoding="utf-8")) for name in names
    )
    return run | {"train": run["train"] | train, "augment": augment}
