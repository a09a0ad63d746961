"""All benchmarks of one GPU, ``python -m benchmarks.gpu``."""
