"""One data set per file or folder, found by name; common/ has what they share, packing/ the arrays, loader.py the batches."""
