"""One student per file, NAME.py with conf/student/NAME.yaml, found by name."""
