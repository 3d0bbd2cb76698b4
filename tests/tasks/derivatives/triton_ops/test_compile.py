"""Every kernel of a meta-gradient compiles for the GPU it is meant for, which needs none."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

pytest.importorskip("triton")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.torch_ops import first
from fanfold.tasks.derivatives.triton_ops import first as fused_first
from fanfold.tasks.derivatives.triton_ops import norms as fused_norms
from fanfold.tasks.derivatives.triton_ops.products import Products

HOPPER = GPUTarget("cuda", 90, 32)
POINTERS = {torch.float32: "*fp32", torch.uint8: "*u8"}
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Compiled(NamedTuple):
    name: str
    ptx: str
    stack: int  # bytes a thread needs beyond its registers


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """What has been launched, compiled and not run."""
    found = []

    def compile_only(kernel, *arguments, grid, warmup, **constants):
        options = {name: constants.pop(name) for name in OPTIONS}
        values = dict(zip(kernel.arg_names, arguments, strict=False)) | constants
        signature, known, attributes = {}, {}, {}
        for number, parameter in enumerate(kernel.params):
            name, value = parameter.name, values[parameter.name]
            if parameter.is_constexpr or (isinstance(value, int) and value == 1):
                signature[name], known[name] = "constexpr", value
            elif isinstance(value, float):
                signature[name] = "fp32"
            else:
                signature[name] = POINTERS[value.dtype] if isinstance(value, torch.Tensor) else "i32"
                address = value.data_ptr() if isinstance(value, torch.Tensor) else value
                if address % 16 == 0:
                    attributes[(number,)] = [["tt.divisibility", 16]]
        source = ASTSource(kernel, signature, known, attributes)
        result = triton.compile(source, target=HOPPER, options=options)
        binary = tmp_path / "kernel.cubin"
        binary.write_bytes(result.asm["cubin"])
        usage = subprocess.run([CUOBJDUMP, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
        found.append(Compiled(kernel.__name__, result.asm["ptx"], int(re.findall(r"STACK:(\d+)", usage)[0])))

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(triton.runtime.JITFunction, "run", compile_only)
    return found


def assert_good(launched):
    assert launched
    for kernel in launched:
        assert kernel.stack <= 16, f"{kernel.name} keeps numbers of its threads in memory"
        assert re.search(r"ld\.global[.\w]*\.v4|cp\.async\.cg\.shared\.global .*, 0x10,", kernel.ptx), (
            f"{kernel.name} reads less than 16 bytes at a time"
        )


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_products_compile(launched, precision):
    pictures = torch.empty(32, 5, 14, 14, 64)
    filters = torch.empty(32, 40_000)[:, 16 : 16 + 9 * 64 * 64].view(32, 3, 3, 64, 64)
    products, pairs = Products(precision), [(pictures, filters)] * 2
    products.convolve_with_moments(pairs[:1], 1, 1)
    products.by_inputs(pairs[:1], (14, 14), 1, 1)
    products.by_filters([(pictures, pictures)] * 2, 3, 1, 1)
    assert [kernel.name for kernel in launched] == ["_gathered", "_gathered", "_by_filters"]
    assert_good(launched)
    if precision != "ieee":
        assert all(re.search(r"wgmma.*\.tf32|mma\.sync.*\.tf32", kernel.ptx) for kernel in launched)


def test_what_lies_between_compiles(launched):
    x, scale = torch.empty(32, 5, 7, 7, 64), torch.empty(32, 640)[:, 64:128]
    norm = fused_norms.forward(x, scale, scale, 1e-5, 2)
    _, back = fused_norms.backward(norm, x, norm.z, 2)
    forth = fused_norms.tangent(norm, x, x, scale, scale, 2)
    fused_norms.backward_tangent(norm, back, forth, x, x, norm.z, 2)
    assert len(launched) == 8
    assert_good(launched)


def test_the_first_block_compiles(launched):
    statistics = torch.empty(32, 9), torch.empty(32, 9, 9)
    seen = first.Patches(torch.empty(32, 5, 28, 28, 1), *statistics, Geometry(3, 1, 1, 2))
    matrix, of_channels = torch.empty(32, 640)[:, : 9 * 64].view(32, 9, 64), torch.empty(32, 64)
    norm = fused_first.forward(seen, matrix, *[of_channels] * 4, 1e-5)
    _, back = fused_first.backward(norm, seen, norm.z)
    forth = fused_first.tangent(norm, seen, matrix, *[of_channels] * 4)
    fused_first.backward_tangent(norm, back, forth, seen, norm.z)
    assert len(launched) == 6
    assert_good(launched)
