"""The training loop: state, checkpoints to resume from, optimizers, meters and loggers."""
