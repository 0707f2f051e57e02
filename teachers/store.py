"""Fine-tuned teachers, each trained once and found again by what it is."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from distill.runs.folder import RunFolder
from distill.system import distributed as parallel
from distill.system.weights import intact


def find_or_train(folder: RunFolder, train: Callable[[], None]) -> Path:
    """Return the weights of a fine-tuned teacher, training it first where the folder is not complete.

    Other processes that need the same teacher wait under the lock; a training that was killed goes on from its checkpoint.

    Args:
        folder: the teacher's run folder, named by its fingerprint.
        train: fills the folder.

    Raises:
        ValueError: the weights are gone or damaged.
    """
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    with parallel.only_main(FileLock(f"{folder}.lock")):
        if not parallel.broadcast_from_main(folder.is_complete):
            train()
    return intact(folder.weights, f"Delete the folder {folder}; it is trained again.")
