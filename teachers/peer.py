"""A second student that learns beside the first: the teacher of mutual learning."""

from torch import Tensor

from teachers.frozen import NetworkTeacher


def is_peer(teacher: dict) -> bool:
    """Say whether a teacher's config is that of a second student that learns beside the first."""
    return teacher["_target_"] == "teachers.peer.Peer"


class Peer(NetworkTeacher):
    """Answers training batches as a student does, with gradients and in train mode; other splits in eval mode without.

    Its parameters reach the optimizer and the checkpoints through the loss that trains it (distill.losses.dml). Its precision is
    the student's.

    Reference: Zhang et al., Deep Mutual Learning, arXiv 1706.00384.
    """

    learns = True

    def open(self, split: str, view_id: int, table: Tensor, features: bool = True) -> None:
        """Learn from the train split, only answer about others."""
        self.learning = split == "train"
        self.network.train(self.learning)
