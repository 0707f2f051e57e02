"""Views of a face: augmentation as a table of numbers, and AutoAugment."""
