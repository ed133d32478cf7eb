"""Compile every Triton kernel for every target, without a GPU, and look at the machine code.

python -m conformance.aot [--json FILE] [--targets sm_90 gfx942]

What has to hold: it compiles; nothing is spilled; contiguous tensors are read or written 16 bytes at a time; no product
and sum are contracted to one rounding; no subnormal is flushed; no division is approximate; products of matrices are
computed by matrix units.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from conformance.record import Json
from incref.formats import (
    FORMATS,
    BlockFormat,
    BlockRule,
    FloatFormat,
    IntFormat,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleOrder,
    ScaleRule,
)
from incref.numerics.encode import Encoding
from incref.numerics.mx import BlockSpecials
from incref_kernels.triton import (
    decode,
    dequantize_mx,
    encode,
    fp8_matmul,
    int8_matmul,
    quantize_mx,
    weight_only_matmul,
)
from incref_kernels.triton.matmul_tiles import MatmulTile
from incref_kernels.triton.tiles import Tile

__all__ = ["TARGETS", "Build", "Code", "builds", "compile_for", "main"]

TARGETS: Mapping[str, GPUTarget] = {
    **{f"sm_{arch}": GPUTarget("cuda", arch, 32) for arch in (80, 86, 89, 90, 100, 103, 120)},
    **{name: GPUTarget("hip", name, 64) for name in ("gfx90a", "gfx942", "gfx950")},
    **{name: GPUTarget("hip", name, 32) for name in ("gfx1100", "gfx1201")},
}
"""What the kernels are compiled for."""

_POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.uint8: "*u8",
    torch.int8: "*i8",
    torch.int16: "*i16",
    torch.int32: "*i32",
}
_SPECIALS = BlockSpecials(nan=BlockRule.NAN_BLOCK, inf=BlockRule.NAN_BLOCK)


@dataclass(frozen=True, kw_only=True)
class Build:
    """A kernel as it is shipped: the types of its arguments and its constants.

    Attributes:
        name: of the row in the table.
        kernel: the jitted function.
        pointers: dtype of the tensor behind each pointer; None for a tensor that is not there.
        constants: by name.
        tile: its number of warps.
        has_division: whether the machine code divides, which takes fused operations.
        units: integers that are 1, as strides of what lies side by side are.
        has_products: whether it multiplies matrices.
    """

    name: str
    kernel: triton.JITFunction
    pointers: Mapping[str, torch.dtype | None]
    constants: Mapping[str, object]
    tile: Tile | MatmulTile
    has_division: bool = False
    units: frozenset[str] = frozenset()
    has_products: bool = False

    def source(self) -> ASTSource:
        """Give what the compiler takes: tensors that start at a multiple of 16 bytes, extents that are one of 16."""
        signature, constants, attributes = {}, dict(self.constants), {}
        for place, name in enumerate(self.kernel.arg_names):
            if name in self.constants:
                signature[name] = "constexpr"
            elif name in self.units:
                signature[name], constants[name] = "constexpr", 1
            elif self.pointers.get(name, torch.int64) is None:
                signature[name], constants[name] = "constexpr", None
            else:
                dtype = self.pointers.get(name)
                signature[name] = _POINTERS[dtype] if dtype is not None else "i32"
                attributes[place,] = [["tt.divisibility", 16]]
        return ASTSource(self.kernel, signature=signature, constexprs=constants, attrs=attributes)


@dataclass(kw_only=True)
class Code:
    """What the machine code of one kernel for one target looks like.

    Attributes:
        registers: of a thread.
        spills: bytes of stack on NVIDIA; spilled registers and bytes of scratch memory on AMD.
        wide_loads: reads of 16 bytes.
        wide_stores: writes of 16 bytes.
        faults: what must not be there.
    """

    registers: int = 0
    spills: int = 0
    wide_loads: int = 0
    wide_stores: int = 0
    faults: list[str] = field(default_factory=list)


def _block_builds(dtype: torch.dtype, fmt: BlockFormat) -> Iterator[Build]:
    element_dtype = torch.int8 if isinstance(fmt.element, IntFormat) else torch.uint8
    kind, size = str(dtype).removeprefix("torch."), fmt.block_size
    layout = FORMATS["float32"]
    to = Encoding(fmt=fmt.element, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.SATURATE, nan=NanRule.ERROR)
    constants = {
        "layout": layout,
        "fmt": fmt,
        "to": to,
        "rule": ScaleRule.DIVIDE if fmt.has_tensor_scale else ScaleRule.FLOOR,
        "arithmetic": ScaleArithmetic.DIVIDE,
        "specials": _SPECIALS,
    }
    whole = torch.float32 if fmt.has_tensor_scale else None
    pointers = {
        "x_ptr": dtype,
        "random_ptr": None,
        "tensor_scale_ptr": whole,
        "codes_ptr": element_dtype,
        "scale_ptr": torch.uint8,
        "lost_ptr": None,
    }
    along, across = quantize_mx.TILE, quantize_mx.TILE_ACROSS
    yield Build(
        name=f"quantize_mx {fmt.name} {kind}, last axis",
        kernel=quantize_mx.quantize_along_kernel,
        pointers=pointers,
        constants=constants | {"BLOCKS": along.elements // size},
        tile=along,
        has_division=fmt.has_tensor_scale,
    )
    yield Build(
        name=f"quantize_mx {fmt.name} {kind}, first axis",
        kernel=quantize_mx.quantize_across_kernel,
        pointers=pointers,
        constants=constants | {"COLUMNS": across.elements // size},
        tile=across,
        has_division=fmt.has_tensor_scale,
    )
    tile = dequantize_mx.TILE
    back = {
        "codes_ptr": element_dtype,
        "scale_ptr": torch.uint8,
        "tensor_scale_ptr": whole,
        "patterns_ptr": torch.int32 if dtype is torch.float32 else torch.int16,
    }
    target = {"fmt": fmt, "layout": FORMATS[kind]}
    yield Build(
        name=f"dequantize_mx {fmt.name} {kind}, last axis",
        kernel=dequantize_mx.dequantize_along_kernel,
        pointers=back,
        constants=target | {"BLOCKS": tile.elements // size},
        tile=tile,
    )
    yield Build(
        name=f"dequantize_mx {fmt.name} {kind}, first axis",
        kernel=dequantize_mx.dequantize_across_kernel,
        pointers=back,
        constants=target | {"COLUMNS": tile.elements // size},
        tile=tile,
    )


def _product_builds() -> Iterator[Build]:
    """Products of matrices with the tiles for few, some and many rows."""
    layout, rows = FORMATS["bfloat16"], {"X_EXTENT": 1, "W_EXTENT": 1}
    scales = {"x_scale_ptr": torch.float32, "w_scale_ptr": torch.float32, "bias_ptr": None, "out_ptr": torch.int16}
    for tile in int8_matmul.TILES:
        yield Build(
            name=f"int8_matmul, {tile.rows} rows",
            kernel=int8_matmul.int8_matmul_kernel,
            pointers=scales | {"x_ptr": torch.int8, "w_ptr": torch.int8, "x_zero_ptr": None, "w_zero_ptr": None},
            constants=_constants(tile, order=ScaleOrder.X_THEN_W, layout=layout, OFFSET=0, **rows)
            | {"X_ZERO_EXTENT": 0, "W_ZERO_EXTENT": 0},
            tile=tile,
            units=frozenset({"x_k", "w_k"}),
            has_products=True,
        )
    e4m3 = FORMATS["float8_e4m3fn"]
    for tile in fp8_matmul.TILES:
        halved = replace(tile, block_k=min(tile.block_k, fp8_matmul.K_OF_BFLOAT16))
        yield Build(
            name=f"fp8_matmul as bfloat16, {tile.rows} rows",
            kernel=fp8_matmul.fp8_matmul_kernel,
            pointers=scales | {"x_ptr": torch.uint8, "w_ptr": torch.uint8},
            constants=_constants(halved, order=ScaleOrder.PRODUCT, layout=layout, x_fmt=e4m3, w_fmt=e4m3, **rows)
            | {"x_type": None, "w_type": None, "STRETCH": 0, "PROMOTE": None, "BIAS_AXIS": 1 - tile.is_transposed},
            tile=halved,
            units=frozenset({"x_k", "w_k", "out_row" if tile.is_transposed else "out_column"}),
            has_products=True,
        )
    names = (
        "zero_ptr",
        "table_ptr",
        "tensor_scale_ptr",
        "group_ptr",
        "unless_ptr",
        "left_ptr",
        "right_ptr",
        "bias_ptr",
    )
    for tile in weight_only_matmul.TILES:
        yield Build(
            name=f"weight_only_matmul int4, {tile.rows} rows",
            kernel=weight_only_matmul.weight_only_matmul_kernel,
            pointers=dict.fromkeys(names)
            | {"x_ptr": torch.bfloat16, "w_ptr": torch.uint8, "scale_ptr": torch.float32, "out_ptr": torch.int16},
            constants=_constants(tile, fmt=FORMATS["int4"], scale_fmt=None, order=ScaleOrder.PRODUCT, layout=layout)
            | {
                "weight_type": tl.bfloat16,
                "common_type": tl.bfloat16,
                "EXTENT": 1,
                "GROUP": 128,
                "PACKED": 2,
                "PARTS": 1,
            },
            tile=tile,
            units=frozenset({"x_k", "w_k"}),
            has_products=True,
        )


def _constants(tile: MatmulTile, **others: object) -> dict[str, object]:
    sizes = {name: size for name, size in tile.constants().items() if name != "num_stages"}
    return {**sizes, "EVEN_K": True, **others}


def builds() -> Iterator[Build]:
    """List every kernel in its shipped configurations."""
    yield from _product_builds()
    for dtype in (torch.float32, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        for name in ("float8_e4m3fn", "float4_e2m1fn"):
            fmt = FORMATS[name]
            assert isinstance(fmt, FloatFormat)
            to = Encoding(fmt=fmt, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.SATURATE, nan=NanRule.MAX)
            yield Build(
                name=f"encode {name} from {kind}",
                kernel=encode.encode_kernel,
                pointers={"x_ptr": dtype, "random_ptr": None, "codes_ptr": torch.uint8, "lost_ptr": None},
                constants={"layout": FORMATS["float32"], "to": to, "BLOCK": encode.TILE.elements},
                tile=encode.TILE,
            )
            yield Build(
                name=f"decode {name} to {kind}",
                kernel=decode.decode_kernel,
                pointers={
                    "codes_ptr": torch.uint8,
                    "patterns_ptr": torch.int32 if dtype is torch.float32 else torch.int16,
                },
                constants={"fmt": fmt, "layout": FORMATS[kind], "BLOCK": decode.TILE.elements},
                tile=decode.TILE,
            )
        for name in ("mxfp8_e4m3", "mxfp4", "mxint8", "nvfp4"):
            block = FORMATS[name]
            assert isinstance(block, BlockFormat)
            yield from _block_builds(dtype, block)


def compile_for(build: Build, target: GPUTarget) -> Code:
    """Compile a kernel and read its machine code."""
    options = {"num_warps": build.tile.num_warps, "enable_fp_fusion": False}
    if isinstance(build.tile, MatmulTile) and target.backend == "cuda":
        options["num_stages"] = build.tile.num_stages
    compiled = triton.compile(build.source(), target=target, options=options)
    is_nvidia = target.backend == "cuda"
    code = _nvidia(compiled.asm["ptx"], compiled.asm["cubin"]) if is_nvidia else _amd(compiled.asm["amdgcn"], build)
    if build.has_products and not re.search(_MATRIX_UNITS, compiled.asm["ptx" if is_nvidia else "amdgcn"]):
        code.faults.append("no instruction of a matrix unit")
    return code


_MATRIX_UNITS = r"wgmma\.mma_async|tcgen05\.mma|mma\.sync|v_s?w?mfmac?_|v_wmma_"


_CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
_FORBIDDEN = {
    "fma": "a contracted product and sum",
    r"\.ftz": "a flush of subnormals",
    r"\.approx": "an approximation",
    r"div\.full": "an approximate division",
}


def _nvidia(ptx: str, cubin: bytes) -> Code:
    code = Code()
    code.faults += [f"{what} in PTX" for pattern, what in _FORBIDDEN.items() if re.search(pattern, ptx)]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _run(_CUOBJDUMP, "-res-usage", file.name)
    code.registers = int(re.findall(r"REG:(\d+)", usage)[0])
    code.spills = int(re.findall(r"STACK:(\d+)", usage)[0])
    code.wide_loads = len(re.findall(r"ld\.global\S*\.v4\.b32|cp\.async\.c[ag]\S* \[.*\], \[.*\], 0x10", ptx))
    code.wide_stores = len(re.findall(r"st\.global\S*\.v4\.b32", ptx))
    return _judge(code)


def _amd(listing: str, build: Build) -> Code:
    code = Code()
    if not build.has_division and re.search(r"v_(?:pk_)?(?:fma|mad|mac|fmac)_f(?:32|64)", listing):
        code.faults.append("a contracted product and sum")
    code.registers = int(re.findall(r"\.vgpr_count:\s+(\d+)", listing)[0])
    code.spills = sum(
        int(found)
        for key in ("vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size")
        for found in re.findall(rf"\.{key}:\s+(\d+)", listing)
    )
    code.wide_loads = len(re.findall(r"(?:global|buffer)_load_(?:dwordx4|b128)", listing))
    code.wide_stores = len(re.findall(r"(?:global|buffer)_store_(?:dwordx4|b128)", listing))
    return _judge(code)


def _judge(code: Code) -> Code:
    if code.spills:
        code.faults.append(f"spills: {code.spills}")
    if not code.wide_loads and not code.wide_stores:
        code.faults.append("no access of 16 bytes")
    return code


def _run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout  # noqa: S603


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile all for all; the exit status is 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="file that the table is written to")
    parser.add_argument("--targets", nargs="+", choices=[*TARGETS], default=[*TARGETS])
    parser.add_argument("--only", default="", help="kernels whose names contain this")
    options = parser.parse_args(arguments)
    # No result of an earlier compilation is taken.
    os.environ.setdefault("TRITON_CACHE_DIR", tempfile.mkdtemp(prefix="incref-aot-"))
    rows: dict[str, Json] = {}
    is_wrong = False
    for build in builds():
        if options.only not in build.name:
            continue
        row: dict[str, Json] = {}
        for name in options.targets:
            code = compile_for(build, TARGETS[name])
            is_wrong = is_wrong or bool(code.faults)
            row[name] = {
                "registers": code.registers,
                "wide_loads": code.wide_loads,
                "wide_stores": code.wide_stores,
                "faults": list(code.faults),
            }
            if code.faults:
                sys.stdout.write(f"{build.name} for {name}: {'; '.join(code.faults)}\n")
        rows[build.name] = row
        sys.stdout.write(f"{build.name}: {len(row)} targets{''}\n")
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps({"triton": triton.__version__, "kernels": rows}, indent=1) + "\n")
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
