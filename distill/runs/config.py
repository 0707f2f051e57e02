"""What a run is asked to be: config.yaml, its only reader and writer."""

from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from distill.runs.result_schema import CONFIG, unlike
from distill.system.files import atomic

COMPONENTS = ("student", "teacher", "loss", "data", "optimizer", "schedule")


@dataclass
class TrainConfig:
    """Keys under train: how a network is trained; conf/train/default.yaml and conf/run.yaml say what each is."""

    epochs: int
    min_steps: int | None
    batch_size: int
    select: str
    precision: str
    clip: float | None
    average: float
    balance: float
    mixup: float
    log_every: int
    threads: int | None
    device: str


@dataclass
class ViewsConfig:
    """Keys under views: the ranges of augmentation; conf/views/default.yaml says what each is."""

    seed: int
    cached: int
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

    views: str
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
    views: ViewsConfig
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
    def from_dict(cls, found: dict) -> "RunConfig":
        """Return the config that plain dicts hold; what an older one does not say is as conf/ has it.

        Raises:
            TypeError: a key that no run has.
        """
        usual, kinds = _defaults(), {own.name: own.type for own in fields(cls)}
        whole = {key: value for key, value in usual.items() if key in kinds} | found
        groups = {key: kind for key, kind in kinds.items() if is_dataclass(kind)}
        return cls(**whole | {key: kind(**usual[key] | found.get(key, {})) for key, kind in groups.items()})

    @classmethod
    def read(cls, file: Path) -> "RunConfig":
        """Read the config of a run folder.

        Raises:
            OSError: there is none.
            ValueError: the file was damaged since, or has a key that no run has.
        """
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
            problem = unlike(found, CONFIG) if isinstance(found, dict) else "is no mapping"
            config = None if problem else cls.from_dict(found)
        except (ValueError, TypeError, yaml.YAMLError) as error:
            problem = " ".join(str(error).split())
        if problem:
            raise ValueError(
                f"{file}: damaged, or no config of a run ({problem}). Bring it back as it was, or delete the folder and train "
                "again."
            )
        return config

    def write(self, file: Path) -> None:
        """Write it."""
        with atomic(file) as temporary:
            text = yaml.safe_dump(asdict(self), allow_unicode=True, sort_keys=False)
            temporary.write_text(text, encoding="utf-8")


@cache
def _defaults() -> dict[str, Any]:
    names = ("run", "train/default", "views/default")
    run, train, views = (yaml.safe_load((files("conf") / f"{name}.yaml").read_text(encoding="utf-8")) for name in names)
    return run | {"train": run["train"] | train, "views": views}
