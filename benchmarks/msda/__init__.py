"""Parts of the benchmark of multi-scale deformable attention, ``benchmarks/ms_deform_attn.py``."""
