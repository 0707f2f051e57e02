"""What losses share: the contracts of a loss and of the objective, options, ramps, and parts of several methods."""
