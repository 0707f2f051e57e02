"""What is measured of a network: predictions, metrics, cost, alignment of layers, robustness, and the figures of them."""
