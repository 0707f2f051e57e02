"""Packed arrays of pictures: written once, mapped from disk afterwards."""
