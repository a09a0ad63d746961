"""Architectures: no learning rates, no paths, no batch sizes."""
