"""Tests run side by side, one core each: two processes of several threads on the same cores ruin each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, and by every command that a test starts
