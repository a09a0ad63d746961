"""Measures what the machine can do at most: matrix products, convolutions, and moving memory.

python -m benchmarks.ceilings --output benchmarks/results/cpu.json

All other benchmarks give their speed as a share of the highest rate found here.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.command import add_common_options, command_line, device_of, start
from benchmarks.rows import CEILINGS, Results, Row, rate, timing_fields
from benchmarks.stopwatch import Patience, measure

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# The name of float32 with factors cut to 10 bits, which only GPUs have.
TF32 = "tf32"
MODE = "ceiling"
_PATIENCE = Patience(samples=7, at_least=3, seconds=1.0, sample_s=0.1)

# Rows, inner size and columns. The long ones are layers of ViT-Ti and ViT-B on 1120 / 448 pixels,
# of which the first shows what thin products reach.
_CPU_PRODUCTS = ((2048, 2048, 2048), (3072, 3072, 3072), (4900, 192, 768), (3136, 768, 3072))
_GPU_PRODUCTS = ((4096, 4096, 4096), (8192, 8192, 8192), (9604, 384, 1536), (4900, 1024, 4096))
_TINY_PRODUCTS = ((64, 64, 64), (49, 16, 32))
# Channels in and out, and side of the map, for convolutions of 3 x 3.
_CPU_CONVOLUTIONS = ((768, 70), (256, 140))
_GPU_CONVOLUTIONS = ((768, 98), (256, 280))
_TINY_CONVOLUTIONS = ((16, 8),)
_CPU_BYTES, _GPU_BYTES, _TINY_BYTES = 2**28, 2**32, 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes the ceilings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    args = parser.parse_args(argv)
    results, run = start(args, CEILINGS, command_line("benchmarks.ceilings", argv))
    measure_ceilings(results, run, device_of(args), tiny=args.tiny)


def measure_ceilings(
    results: Results, run: dict[str, Any], device: torch.device, *, tiny: bool = False
) -> None:
    """Measures all ceilings of a device.

    Args:
        results: Where rows go; those that are there already are not measured again.
        run: As from :func:`benchmarks.rows.describe_run`.
        device: The device.
        tiny: Whether to try sizes that say nothing, but take no time.
    """
    patience = Patience(samples=2, at_least=2, seconds=0.1, sample_s=0.0) if tiny else _PATIENCE
    for dtype in DTYPES if device.type == "cpu" else (*DTYPES, TF32):
        with _tf32(dtype == TF32):
            for work in (*_arithmetic(device, dtype, tiny), *_memory(device, dtype, tiny)):
                _measure_one(results, run, device, dtype, work, patience)


def _measure_one(
    results: Results,
    run: dict[str, Any],
    device: torch.device,
    dtype: str,
    work: tuple[str, str, dict[str, float], Callable[[], Callable[[], object]]],
    patience: Patience,
) -> None:
    name, variant, amount, prepare = work
    if results.has((CEILINGS, name, variant, dtype, MODE)):
        return
    with torch.inference_mode():
        timing = measure(prepare(), device, patience).timing
    row = Row(
        CEILINGS,
        name,
        variant,
        dtype,
        MODE,
        **timing_fields(timing),
        **amount,  # type: ignore
    )
    found = results.add(row, run)
    if "flop" in amount:
        print(
            f"{name}, {variant}, {dtype}: {rate(found, 'arithmetic') / 1e9:.1f} GFLOP/s", flush=True
        )
    else:
        print(f"{name}, {variant}, {dtype}: {rate(found, 'memory') / 1e9:.1f} GB/s", flush=True)


def _arithmetic(device: torch.device, dtype: str, tiny: bool) -> Iterator[Any]:
    on_cpu = device.type == "cpu"
    products = _TINY_PRODUCTS if tiny else _CPU_PRODUCTS if on_cpu else _GPU_PRODUCTS
    convolutions = (
        _TINY_CONVOLUTIONS if tiny else _CPU_CONVOLUTIONS if on_cpu else _GPU_CONVOLUTIONS
    )
    options = {"device": device, "dtype": DTYPES.get(dtype, torch.float32)}
    for rows, inner, columns in products:
        name = f"matrix product {rows} x {inner} x {columns}"
        amount = {"flop": 2.0 * rows * inner * columns}
        sizes = (rows, inner, columns)
        yield name, "torch.mm", amount, functools.partial(_product, sizes, options)
        if on_cpu:
            # float32 products go to the BLAS that PyTorch is built with; convolutions, also those
            # of 1 x 1, to oneDNN.
            yield name, "1x1 convolution", amount, functools.partial(_pointwise, sizes, options)
    for channels, side in convolutions:
        name = f"3x3 convolution, {channels} channels, {side} x {side}"
        amount = {"flop": 2.0 * 9 * channels**2 * side**2}
        prepare = functools.partial(_convolution, channels, side, options)
        yield name, "channels last", amount, prepare


def _memory(device: torch.device, dtype: str, tiny: bool) -> Iterator[Any]:
    if dtype == TF32:
        return
    size = _TINY_BYTES if tiny else _CPU_BYTES if device.type == "cpu" else _GPU_BYTES
    options = {"device": device, "dtype": DTYPES[dtype]}
    count = size // DTYPES[dtype].itemsize
    yield "copy", "torch.copy_", {"moved_bytes": 2.0 * size}, lambda: _copy(count, options)
    yield "triad a + 3 b", "torch.add", {"moved_bytes": 3.0 * size}, lambda: _triad(count, options)


def _product(sizes: tuple[int, int, int], options: dict[str, Any]) -> Callable[[], object]:
    rows, inner, columns = sizes
    left, right = torch.randn(rows, inner, **options), torch.randn(columns, inner, **options)
    return lambda: torch.mm(left, right.T)


def _pointwise(sizes: tuple[int, int, int], options: dict[str, Any]) -> Callable[[], object]:
    rows, inner, columns = sizes
    image = torch.randn(1, rows, 1, inner, **options).permute(0, 3, 1, 2)
    weight = torch.randn(columns, inner, 1, 1, **options)
    return lambda: F.conv2d(image, weight)


def _convolution(channels: int, side: int, options: dict[str, Any]) -> Callable[[], object]:
    image = torch.randn(1, channels, side, side, **options)
    weight = torch.randn(channels, channels, 3, 3, **options)
    image, weight = (x.contiguous(memory_format=torch.channels_last) for x in (image, weight))
    return lambda: F.conv2d(image, weight, padding=1)


def _copy(count: int, options: dict[str, Any]) -> Callable[[], object]:
    source, target = torch.ones(count, **options), torch.ones(count, **options)
    return lambda: target.copy_(source)


def _triad(count: int, options: dict[str, Any]) -> Callable[[], object]:
    first, second, target = (torch.ones(count, **options) for _ in range(3))
    return lambda: torch.add(first, second, alpha=3, out=target)


@contextmanager
def _tf32(enabled: bool) -> Iterator[None]:
    """Allows or forbids TF32, so that float32 means the same in products and convolutions."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


if __name__ == "__main__":
    main()
