"""What a run folder looks like: read without PyTorch."""
