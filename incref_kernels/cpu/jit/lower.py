"""A traced program as LLVM instructions on vectors."""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref_kernels.cpu.jit.trace import Program, Step, Value

__all__ = ["Lanes", "Writer", "element_type", "vector_type"]

_FLOATS = {torch.float32: "float", torch.float64: "double"}
# A half has no arithmetic here: it is its pattern until it is widened.
_HALVES = {torch.float16: "half", torch.bfloat16: "bfloat"}


def element_type(dtype: torch.dtype) -> str:
    """LLVM's type of an element of `dtype`."""
    if dtype is torch.bool:
        return "i1"
    return _FLOATS.get(dtype) or f"i{8 * dtype.itemsize}"


def vector_type(dtype: torch.dtype, lanes: int) -> str:
    """LLVM's type of `lanes` elements side by side; of one alone it is that of an element."""
    return element_type(dtype) if lanes == 1 else f"<{lanes} x {element_type(dtype)}>"


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """A tensor in registers: its last dimension lies in a vector, and there are as many as the others have places.

    Of a tensor [n, 1], what belongs to the rows of another, the first dimension lies in a vector.

    Attributes:
        dtype: of the elements.
        shape: of the tensor.
        registers: in row-major order.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    registers: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many elements are in a register."""
        return _layout(self.shape)[0]

    @property
    def type(self) -> str:
        """LLVM's type of a register."""
        return vector_type(self.dtype, self.width)


def _layout(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many elements a register has, and how many registers there are."""
    if _is_column(shape):
        return shape[0], 1
    return (shape[-1], math.prod(shape[:-1])) if shape else (1, 1)


def _is_column(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and shape[1] == 1 and shape[0] > 1


class Writer:
    """Writes instructions, one a line.

    Attributes:
        lines: what was written.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.lines: list[str] = []
        self._count = 0

    def new(self, text: str) -> str:
        """Write an instruction that gives a value, and name that."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def run(self, program: Program, inputs: Sequence[Lanes]) -> tuple[list[Lanes], str]:
        """Write a program.

        Returns:
            Its results, and an i1: whether an element was lost.
        """
        found = dict(zip((value.number for value in program.inputs), inputs, strict=True))
        for step in program.steps:
            args = [found[arg.number] if isinstance(arg, Value) else arg for arg in step.args]
            lower = _STEPS.get(step.name)
            if lower is None:
                raise UnsupportedError(f"no instruction is known for {step.name}")
            found[step.out.number] = lower(self, args, step)
        lost = "false"
        for value in program.lost:
            lost = self.new(f"or i1 {lost}, {found[value.number].registers[0]}")
        return [found[value.number] for value in program.outputs], lost

    # What instructions are made of.

    def lanes(self, given: object, dtype: torch.dtype, shape: tuple[int, ...]) -> Lanes:
        """Give an argument as elements of `dtype`, repeated to `shape`."""
        if isinstance(given, Tensor):
            if given.numel() != 1:
                raise UnsupportedError("a constant of a tile has one element")
            given = given.to(dtype).item()
        if not isinstance(given, Lanes):
            assert isinstance(given, bool | int | float)
            width, count = _layout(shape)
            return Lanes(dtype=dtype, shape=shape, registers=(_constant(given, dtype, width),) * count)
        return self._spread(self.convert(given, dtype), shape)

    def convert(self, x: Lanes, dtype: torch.dtype) -> Lanes:
        """Convert to `dtype`, as `Tensor.to` does."""
        if x.dtype is dtype:
            return x
        if x.dtype in _HALVES:
            if dtype not in _FLOATS:
                raise UnsupportedError(f"a tile must not convert {x.dtype} to {dtype}")
            half = f"<{x.width} x {_HALVES[x.dtype]}>" if x.width > 1 else _HALVES[x.dtype]
            cast = Lanes(dtype=dtype, shape=x.shape, registers=x.registers)
            return self._map(
                cast, lambda r: self.new(f"fpext {half} {self.new(f'bitcast {x.type} {r} to {half}')} to {cast.type}")
            )
        wanted = Lanes(dtype=dtype, shape=x.shape, registers=x.registers)
        if dtype is torch.bool:
            zero = "fcmp une" if x.dtype in _FLOATS else "icmp ne"
            return self._map(
                wanted,
                lambda r: self.new(
                    f"{zero} {x.type} {r}, zeroinitializer"
                    if x.width > 1
                    else f"{zero} {x.type} {r}, {_constant(0, x.dtype, 1)}"
                ),
            )
        if x.dtype in _FLOATS and dtype is torch.int32:
            # What an int32 has no number for is the processor's choice in PyTorch, and poison in a plain conversion.
            return self._map(wanted, lambda r: self.new(_saturating(x, wanted, r)))
        name = _conversion(x.dtype, dtype)
        if name is None:
            return wanted
        return self._map(wanted, lambda r: self.new(f"{name} {x.type} {r} to {wanted.type}"))

    def _spread(self, x: Lanes, shape: tuple[int, ...]) -> Lanes:
        if x.shape == shape:
            return x
        width, _ = _layout(shape)
        registers = x.registers
        if _is_column(x.shape):
            spread = tuple(self._splat(registers[0], x, width, at=row) for row in range(shape[0]))
            return Lanes(dtype=x.dtype, shape=shape, registers=spread)
        if x.width != width:
            registers = tuple(self._splat(register, x, width) for register in registers)
        if _is_column(shape):
            return Lanes(dtype=x.dtype, shape=shape, registers=registers)
        # Which register is repeated where: leading dimensions of extent 1 are.
        lead = (1,) * (len(shape) - len(x.shape)) + x.shape[:-1] if shape else ()
        lead = lead[: len(shape) - 1]
        chosen = []
        for place in product(*(range(extent) for extent in shape[:-1])):
            at = 0
            for index, extent in zip(place, lead, strict=True):
                at = at * extent + (index if extent > 1 else 0)
            chosen.append(registers[at])
        return Lanes(dtype=x.dtype, shape=shape, registers=tuple(chosen))

    def _splat(self, register: str, x: Lanes, width: int, *, at: int = 0) -> str:
        """Repeat one element of a register."""
        wide = vector_type(x.dtype, width)
        if x.width > 1:
            mask = f"<{width} x i32> splat (i32 {at})"
            return self.new(f"shufflevector {x.type} {register}, {x.type} poison, {mask}")
        first = self.new(f"insertelement {wide} poison, {x.type} {register}, i32 0")
        return self.new(f"shufflevector {wide} {first}, {wide} poison, <{width} x i32> zeroinitializer")

    def _map(self, like: Lanes, make: Callable[[str], str]) -> Lanes:
        # A constant, or a register that is repeated, is worked on once.
        made: dict[str, str] = {}
        for register in like.registers:
            if register not in made:
                made[register] = make(register)
        return Lanes(dtype=like.dtype, shape=like.shape, registers=tuple(made[r] for r in like.registers))

    def zip(self, out: Value, inputs: Sequence[Lanes], make: Callable[..., str]) -> Lanes:
        """Write an instruction for each register of `inputs`, which have the shape of `out`."""
        made: dict[tuple[str, ...], str] = {}
        for registers in zip(*(x.registers for x in inputs), strict=True):
            if registers not in made:
                made[registers] = make(*registers)
        names = tuple(made[registers] for registers in zip(*(x.registers for x in inputs), strict=True))
        return Lanes(dtype=out.dtype, shape=out.shape, registers=names)


def _constant(value: float, dtype: torch.dtype, width: int) -> str:
    if dtype in _FLOATS:
        text = f"0x{struct.unpack('<Q', struct.pack('<d', float(value)))[0]:016X}"
    elif dtype is torch.bool:
        text = "true" if value else "false"
    else:
        text = str(int(value))
    return text if width == 1 else f"splat ({element_type(dtype)} {text})"


def _saturating(x: Lanes, wanted: Lanes, register: str) -> str:
    kinds = [f"{f'v{x.width}' if x.width > 1 else ''}{kind}" for kind in ("i32", f"f{8 * x.dtype.itemsize}")]
    return f"call {wanted.type} @llvm.fptosi.sat.{kinds[0]}.{kinds[1]}({x.type} {register})"


def _conversion(source: torch.dtype, target: torch.dtype) -> str | None:
    """Name of the instruction between two dtypes; None where the bits stay."""
    if source in _FLOATS and target in _FLOATS:
        return "fpext" if target.itemsize > source.itemsize else "fptrunc"
    is_unsigned = source in (torch.bool, torch.uint8)
    if target in _FLOATS:
        return "uitofp" if is_unsigned else "sitofp"
    if source in _FLOATS or target in _HALVES:
        raise UnsupportedError(f"a tile must not convert {source} to {target}")
    width = 1 if source is torch.bool else 8 * source.itemsize
    if width == 8 * target.itemsize:
        return None
    if width > 8 * target.itemsize:
        return "trunc"
    return "zext" if is_unsigned else "sext"


# One function a kind of step. Each takes the writer, the arguments and the step.

_Lower = Callable[[Writer, list[object], Step], Lanes]


def _arithmetic(integer: str, real: str | None = None) -> _Lower:
    def lower(writer: Writer, args: list[object], step: Step) -> Lanes:
        out = step.out
        if len(args) > 2 and args[2] != 1:
            raise UnsupportedError(f"{step.name} takes no alpha in a tile")
        a, b = (writer.lanes(arg, out.dtype, out.shape) for arg in args[:2])
        name = real if out.dtype in _FLOATS else "and" if out.dtype is torch.bool and integer == "mul" else integer
        if name is None or out.dtype in _HALVES:
            raise UnsupportedError(f"a tile has no {step.name} of {out.dtype}")
        return writer.zip(out, (a, b), lambda x, y: writer.new(f"{name} {a.type} {x}, {y}"))

    return lower


def _reversed(lower: _Lower) -> _Lower:
    """The same with the first two arguments exchanged."""
    return lambda writer, args, step: lower(writer, [args[1], args[0], *args[2:]], step)


def _comparison(signed: str, real: str) -> _Lower:
    def lower(writer: Writer, args: list[object], step: Step) -> Lanes:
        dtype = _common_dtype(args[0], args[1])
        a, b = (writer.lanes(arg, dtype, step.out.shape) for arg in args[:2])
        is_unsigned = dtype in (torch.bool, torch.uint8)
        name = (
            f"fcmp {real}"
            if dtype in _FLOATS
            else f"icmp {signed.replace('sl', 'ul').replace('sg', 'ug') if is_unsigned else signed}"
        )
        return writer.zip(step.out, (a, b), lambda x, y: writer.new(f"{name} {a.type} {x}, {y}"))

    return lower


def _common_dtype(a: object, b: object) -> torch.dtype:
    """The dtype in which PyTorch compares two arguments."""
    stand_ins = [torch.empty(x.shape, dtype=x.dtype, device="meta") if isinstance(x, Lanes) else x for x in (a, b)]
    common: torch.dtype = torch.result_type(*stand_ins)  # type: ignore[call-overload]  # tensors and numbers
    return common


def _shift(name: str) -> _Lower:
    def lower(writer: Writer, args: list[object], step: Step) -> Lanes:
        out = step.out
        amount = args[1].item() if isinstance(args[1], Tensor) else args[1]
        x = writer.lanes(args[0], out.dtype, out.shape)
        by = writer.lanes(amount, out.dtype, out.shape)
        bits = 8 * out.dtype.itemsize
        if out.dtype is torch.uint8 and name == "ashr":
            raise UnsupportedError("a tile shifts signed integers")
        if not isinstance(amount, Lanes):
            assert isinstance(amount, int)
            assert 0 <= amount < bits
            return writer.zip(out, (x, by), lambda a, b: writer.new(f"{name} {x.type} {a}, {b}"))

        def guarded(a: str, b: str) -> str:
            # Shifts by the width or more are defined in PyTorch, and not in LLVM.
            inside = writer.new(f"icmp ult {x.type} {b}, {_constant(bits, out.dtype, x.width)}")
            mask = "i1" if x.width == 1 else f"<{x.width} x i1>"
            if name == "ashr":
                most = _constant(bits - 1, out.dtype, x.width)
                limited = writer.new(f"select {mask} {inside}, {x.type} {b}, {x.type} {most}")
                return writer.new(f"ashr {x.type} {a}, {limited}")
            shifted = writer.new(f"shl {x.type} {a}, {b}")
            return writer.new(
                f"select {mask} {inside}, {x.type} {shifted}, {x.type} {_constant(0, out.dtype, x.width)}"
            )

        return writer.zip(out, (x, by), guarded)

    return lower


def _where(writer: Writer, args: list[object], step: Step) -> Lanes:
    out = step.out
    test = writer.lanes(args[0], torch.bool, out.shape)
    a, b = (writer.lanes(arg, out.dtype, out.shape) for arg in args[1:])
    return writer.zip(
        out, (test, a, b), lambda t, x, y: writer.new(f"select {test.type} {t}, {a.type} {x}, {a.type} {y}")
    )


def _clamp(writer: Writer, args: list[object], step: Step) -> Lanes:
    low, high = args[1], args[2] if len(args) > 2 else None
    x = writer.lanes(args[0], step.out.dtype, step.out.shape)
    for limit, is_beyond in ((low, "lt"), (high, "gt")):
        if limit is not None:
            x = _limited(writer, x, limit, is_beyond, step.out)
    return x


def _limited(writer: Writer, x: Lanes, limit: object, is_beyond: str, out: Value) -> Lanes:
    """Replace what is beyond a limit by it; a NaN never is."""
    bound = writer.lanes(limit, x.dtype, x.shape)
    test = f"fcmp o{is_beyond}" if x.dtype in _FLOATS else f"icmp s{is_beyond}"
    mask = "i1" if x.width == 1 else f"<{x.width} x i1>"

    def choose(a: str, b: str) -> str:
        beyond = writer.new(f"{test} {x.type} {a}, {b}")
        return writer.new(f"select {mask} {beyond}, {x.type} {b}, {x.type} {a}")

    return writer.zip(out, (x, bound), choose)


def _extreme(is_beyond: str) -> _Lower:
    def lower(writer: Writer, args: list[object], step: Step) -> Lanes:
        if step.out.dtype in _FLOATS:
            raise UnsupportedError("a tile compares patterns, not floats")
        x = writer.lanes(args[0], step.out.dtype, step.out.shape)
        return _limited(writer, x, args[1], is_beyond, step.out)

    return lower


def _unary(integer: str | None, real: str | None) -> _Lower:
    """Instructions of one operand, for integers and for floats."""

    def lower(writer: Writer, args: list[object], step: Step) -> Lanes:
        x = writer.lanes(args[0], step.out.dtype, step.out.shape)
        text = real if step.out.dtype in _FLOATS else integer
        if text is None:
            raise UnsupportedError(f"a tile has no {step.name} of {step.out.dtype}")
        ones = _constant(step.out.dtype is torch.bool or -1, step.out.dtype, x.width) if integer else ""
        width = f"v{x.width}" if x.width > 1 else ""
        kind = f"{width}{'f' if x.dtype in _FLOATS else 'i'}{8 * x.dtype.itemsize}"
        return writer.zip(step.out, (x,), lambda r: writer.new(text.format(type=x.type, x=r, ones=ones, kind=kind)))

    return lower


def _isnan(writer: Writer, args: list[object], step: Step) -> Lanes:
    (x,) = args
    assert isinstance(x, Lanes)
    return writer.zip(step.out, (x,), lambda r: writer.new(f"fcmp uno {x.type} {r}, {r}"))


def _reciprocal(writer: Writer, args: list[object], step: Step) -> Lanes:
    x = writer.lanes(args[0], step.out.dtype, step.out.shape)
    one = _constant(1, step.out.dtype, x.width)
    return writer.zip(step.out, (x,), lambda r: writer.new(f"fdiv {x.type} {one}, {r}"))


def _copy(writer: Writer, args: list[object], step: Step) -> Lanes:
    return writer.lanes(args[0], step.out.dtype, step.out.shape)


def _view(writer: Writer, args: list[object], step: Step) -> Lanes:
    """Another shape, or another dtype of the same size."""
    del writer
    (x, *_) = args
    assert isinstance(x, Lanes)
    out = step.out
    if _layout(out.shape) != (x.width, len(x.registers)):
        raise UnsupportedError(f"a tile must not be viewed as {out.shape}, from {x.shape}")
    return Lanes(dtype=x.dtype, shape=out.shape, registers=x.registers)


def _view_or_bitcast(writer: Writer, args: list[object], step: Step) -> Lanes:
    x = args[0]
    assert isinstance(x, Lanes)
    if not isinstance(args[1], torch.dtype):
        return _view(writer, args, step)
    wanted = vector_type(step.out.dtype, x.width)
    if wanted == x.type:
        return Lanes(dtype=step.out.dtype, shape=x.shape, registers=x.registers)
    return writer.zip(step.out, (x,), lambda r: writer.new(f"bitcast {x.type} {r} to {wanted}"))


def _expand(writer: Writer, args: list[object], step: Step) -> Lanes:
    return writer.lanes(args[0], step.out.dtype, step.out.shape)


def _reduce(name: str) -> _Lower:
    """Reduce over the last dimension, inside registers, or over the first, register by register."""

    def lower(writer: Writer, args: list[object], step: Step) -> Lanes:
        x = args[0]
        assert isinstance(x, Lanes)
        dims = args[1] if len(args) > 1 else list(range(len(x.shape)))
        dims = [dims] if isinstance(dims, int) else list(dims)  # type: ignore[call-overload]  # a list of dimensions
        dims = sorted(d % len(x.shape) for d in dims) if x.shape else []
        registers = list(x.registers)
        if _is_column(x.shape) and dims == [1]:
            return Lanes(dtype=step.out.dtype, shape=step.out.shape, registers=x.registers)
        if dims == [1] and x.shape[0] > 1:
            return Lanes(dtype=step.out.dtype, shape=step.out.shape, registers=(_across(writer, x, name),))
        if 0 in dims and len(x.shape) > 1 and not _is_column(x.shape):
            assert len(x.shape) == 2
            registers = [_tree(writer, registers, x.type, name)]
        if x.width > 1 and (len(x.shape) - 1 in dims or _is_column(x.shape)):
            function = "smax" if name == "smax" else "or"
            kind = element_type(x.dtype)
            registers = [
                writer.new(f"call {kind} @llvm.vector.reduce.{function}.v{x.width}{kind}({x.type} {r})")
                for r in registers
            ]
        return Lanes(dtype=step.out.dtype, shape=step.out.shape, registers=tuple(registers))

    return lower


def _across(writer: Writer, x: Lanes, name: str) -> str:
    """Reduce every register to one element of the register that is returned."""
    rows, width = x.shape
    assert width % rows == 0
    registers = list(x.registers)
    while width > rows:
        width //= 2
        halves = (range(width), range(width, 2 * width))
        registers = [_fold(writer, (r, r), halves, name, vector_type(x.dtype, 2 * width)) for r in registers]
    # Two registers become one, a half for each.
    places = (range(0, 2 * width, 2), range(1, 2 * width, 2))
    while len(registers) > 1:
        pairs = zip(registers[::2], registers[1::2], strict=True)
        registers = [_fold(writer, pair, places, name, vector_type(x.dtype, width)) for pair in pairs]
    return registers[0]


def _fold(writer: Writer, pair: tuple[str, str], places: tuple[range, range], name: str, kind: str) -> str:
    """Combine two choices from the elements of two registers."""
    first, second = pair
    count = len(places[0])
    a, b = (
        writer.new(
            f"shufflevector {kind} {first}, {kind} {second}, "
            f"<{count} x i32> <{', '.join(f'i32 {at}' for at in chosen)}>"
        )
        for chosen in places
    )
    return _combine(writer, a, b, f"<{count} x {kind.rsplit(' ', 1)[1]}", name)


def _tree(writer: Writer, registers: list[str], kind: str, name: str) -> str:
    while len(registers) > 1:
        pairs = zip(registers[::2], registers[1::2], strict=False)
        rest = registers[-1:] if len(registers) % 2 else []
        registers = [_combine(writer, a, b, kind, name) for a, b in pairs] + rest
    return registers[0]


def _combine(writer: Writer, a: str, b: str, kind: str, name: str) -> str:
    if name == "or":
        return writer.new(f"or {kind} {a}, {b}")
    mask = f"{kind.split(' x ', maxsplit=1)[0]} x i1>" if kind.startswith("<") else "i1"
    greater = writer.new(f"icmp sgt {kind} {a}, {b}")
    return writer.new(f"select {mask} {greater}, {kind} {a}, {kind} {b}")


def _select_row(writer: Writer, args: list[object], step: Step) -> Lanes:
    """One row of a tile."""
    del writer
    x, dim, index = args
    assert isinstance(x, Lanes)
    assert isinstance(index, int)
    if dim != 0 or len(x.shape) != 2:
        raise UnsupportedError("a tile is cut along its first dimension only")
    return Lanes(dtype=x.dtype, shape=step.out.shape, registers=(x.registers[index],))


_STEPS: dict[str, _Lower] = {
    "bitwise_and": _arithmetic("and"),
    "__and__": _arithmetic("and"),
    "bitwise_or": _arithmetic("or"),
    "__or__": _arithmetic("or"),
    "bitwise_xor": _arithmetic("xor"),
    "__xor__": _arithmetic("xor"),
    "add": _arithmetic("add", "fadd"),
    "sub": _arithmetic("sub", "fsub"),
    "rsub": _reversed(_arithmetic("sub", "fsub")),
    "mul": _arithmetic("mul", "fmul"),
    "div": _arithmetic("div", "fdiv"),
    "bitwise_left_shift": _shift("shl"),
    "__lshift__": _shift("shl"),
    "bitwise_right_shift": _shift("ashr"),
    "__rshift__": _shift("ashr"),
    "eq": _comparison("eq", "oeq"),
    "ne": _comparison("ne", "une"),
    "lt": _comparison("slt", "olt"),
    "le": _comparison("sle", "ole"),
    "gt": _comparison("sgt", "ogt"),
    "ge": _comparison("sge", "oge"),
    "where": _where,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "maximum": _extreme("lt"),
    "minimum": _extreme("gt"),
    "bitwise_not": _unary("xor {type} {x}, {ones}", None),
    "neg": _unary("mul {type} {x}, {ones}", "fneg {type} {x}"),
    "abs": _unary("call {type} @llvm.abs.{kind}({type} {x}, i1 false)", "call {type} @llvm.fabs.{kind}({type} {x})"),
    "round": _unary(None, "call {type} @llvm.roundeven.{kind}({type} {x})"),
    "reciprocal": _reciprocal,
    "isnan": _isnan,
    "_to_copy": _copy,
    "clone": _copy,
    "alias": _view,
    "detach": _view,
    "view": _view_or_bitcast,
    "_unsafe_view": _view,
    "reshape": _view,
    "unsqueeze": _view,
    "squeeze": _view,
    "slice": _view,
    "expand": _expand,
    "amax": _reduce("smax"),
    "any": _reduce("or"),
    "select": _select_row,
}
