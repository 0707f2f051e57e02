"""Teachers: networks, ensembles and peers, and the cache of their logits."""
