"""Tests run side by side, one thread each: two processes of several threads on the same cores ruin each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, and by every command that a test starts


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: a third of the time of the long tests is waiting for processes."""
    return os.cpu_count() + 1


def pytest_collection_modifyitems(items):
    """Long files first: several workers then end together, not one of them alone with the longest."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)
