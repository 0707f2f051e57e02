"""What may be asked for: the schema of a run, its ranges, what is typed, hints where it is mistaken, and names."""
