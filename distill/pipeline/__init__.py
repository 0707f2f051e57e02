"""One run, from a checked config to its result, and the folds and generations made of runs."""
