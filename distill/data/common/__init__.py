"""What the data sets share: reading pictures and labels, splits, and lists of test faces."""
