"""Sweeps: the jobs of a grid or a search, spread over processes, and their records."""
