"""Operations as operators of PyTorch, `torch.ops.incref.<operation>_<backend>`, which graphs hold whole.

An operator is the call `op.on(backend, fallback=...)(...)`. Formats and enums are named in it, a granularity is its
lead and its block. It has no derivative, as kernels have none: what a graph gives it is detached first.
"""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, Union, cast, get_args, get_origin

import torch
from torch import Tensor

from incref.formats.spec import BlockFormat, CodebookFormat, FloatFormat, IntFormat
from incref.formats.table import FORMATS
from incref.numerics.granularity import Granularity
from incref.ops.result import require_out

if TYPE_CHECKING:
    from incref.ops.contract import Op

__all__ = ["NAMESPACE", "GraphCall", "in_graph", "operator", "stays_whole"]

NAMESPACE = "incref"
_FORMATS = (IntFormat, FloatFormat, CodebookFormat, BlockFormat)
# What Inductor makes for these contracts products and sums, and divides by an approximate reciprocal, unless it is told
# otherwise (PyTorch 2.13, torch/_inductor: `enable_fp_fusion`, `eager_numerics.division_rounding`).
_CONTRACTED = ("cuda", "xpu")


@cache
def _library() -> torch.library.Library:
    return torch.library.Library(NAMESPACE, "FRAGMENT")


def _kind(annotation: object) -> tuple[object, bool]:
    """What a parameter is, and whether it may be None. Of formats, which may be named, the name."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    members = get_args(annotation)
    kinds = [member for member in members if member is not type(None)]
    return str if str in kinds else kinds[0], len(kinds) < len(members)


def _schema_type(annotation: object) -> str | None:
    """What a schema calls a parameter; None for what none can hold."""
    kind, is_optional = _kind(annotation)
    names: dict[object, str] = {
        Tensor: "Tensor",
        torch.dtype: "ScalarType",
        bool: "bool",
        int: "SymInt",
        str: "str",
        Granularity: "SymInt[]",
    }
    if get_origin(kind) is tuple:
        name: str | None = "SymInt[]"
    elif isinstance(kind, type) and issubclass(kind, Enum):
        name = "str"
    else:
        name = names.get(kind)
    return f"{name}?" if name is not None and is_optional else name


def _parameters(fn: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that an operator has: those that schemas hold, but for `out`, which is written after it."""
    found = inspect.signature(fn).parameters.items()
    return {name: one for name, one in found if name != "out" and _schema_type(one.annotation) is not None}


def _encoded(value: object) -> object:
    if isinstance(value, Granularity):
        return [value.lead, *value.block]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, _FORMATS):
        return value.name
    return value.detach() if isinstance(value, Tensor) and value.requires_grad else value


def _decoded(value: object, annotation: object) -> object:
    kind, _ = _kind(annotation)
    if value is None:
        return None
    if kind is Granularity:
        lead, *block = cast("list[int]", value)
        return Granularity(block=tuple(block), lead=lead)
    if get_origin(kind) is tuple:
        return tuple(cast("list[int]", value))
    return kind(value) if isinstance(kind, type) and issubclass(kind, Enum) else value


def _product(x: Tensor, w: Tensor, *_: object, dtype: torch.dtype | None, **_options: object) -> Tensor:
    """A result of the shape [..., N], for weights [N, ...] and those of experts [E, N, ...]."""
    return x.new_empty((*x.shape[:-1], w.shape[-2]), dtype=dtype or x.dtype)


def _scaled_product(
    x: Tensor, w: Tensor, *scales: Tensor | None, bias: Tensor | None, dtype: torch.dtype, **_options: object
) -> Tensor:
    is_scaled = any(each is not None for each in (*scales, bias))
    return _product(x, w, dtype=dtype if is_scaled else torch.int32)


def _batches(x: Tensor, y: Tensor, *_: object, dtype: torch.dtype, **_options: object) -> Tensor:
    return x.new_empty(x.shape, dtype=dtype) @ y.new_empty(y.shape, dtype=dtype)


def _convolution(
    x: Tensor,
    w: Tensor,
    *_: object,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    dtype: torch.dtype,
    **_options: object,
) -> Tensor:
    values, weight = x.new_empty(x.shape, dtype=dtype), w.new_empty(w.shape, dtype=dtype)
    return torch.nn.functional.conv2d(values, weight, None, stride, padding, dilation, groups)


# References that add exactly look at values to choose how, so where there are none the shape is found without them.
_WITHOUT_VALUES: Mapping[str, Callable[..., Tensor]] = {
    "int8_matmul": _scaled_product,
    "weight_only_matmul": _product,
    "fp8_matmul": _product,
    "mx_matmul": _product,
    "fp8_bmm": _batches,
    "fp8_conv2d": _convolution,
}


@cache
def operator(op: "Op[..., Any]", backend: str, fn: Callable[..., Any]) -> Callable[..., list[Tensor]]:
    """Define the operator of an operation on a backend, once, and return it.

    Args:
        op: the operation.
        backend: a name that `Op.on` finds, when the operator is called.
        fn: what computes there: an operator has its parameters, in their order.

    Returns:
        `torch.ops.incref.<op>_<backend>.default`. After the parameters of `fn` it takes the fallback of `Op.on`; it
        gives the results as a list, none of which shares memory with an argument.
    """
    parameters = _parameters(fn)

    def run(function: Callable[..., Any], values: Sequence[object]) -> list[Tensor]:
        positional, keyword = [], {}
        for (name, parameter), value in zip(parameters.items(), values, strict=True):
            decoded = _decoded(value, parameter.annotation)
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                keyword[name] = decoded
            else:
                positional.append(decoded)
        found = function(*positional, **keyword)
        return list(found) if isinstance(found, tuple) else [found]

    def real(*values: object) -> list[Tensor]:
        *given, fallback = values
        inputs = [value for value in given if isinstance(value, Tensor)]
        found = run(op.on(backend, fallback=cast("str | None", fallback)), given)
        return [_own(x, inputs) for x in found]

    def fake(*values: object) -> list[Tensor]:
        found = run(_WITHOUT_VALUES.get(op.name, op.reference), values[:-1])
        return [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in found]

    library, name = _library(), f"{op.name}_{backend}"
    schema = ", ".join(f"{_schema_type(one.annotation)} {key}" for key, one in parameters.items())
    # A NaN without a code, and how many digits an exact sum takes, are looked at where the values are.
    tags = [torch.Tag.pt2_compliant_tag, *filter(None, [getattr(torch.Tag, "cudagraph_unsafe", None)])]
    library.define(f"{name}({schema}, str? fallback) -> Tensor[]", tags=tags)
    library.impl(name, real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    defined: Callable[..., list[Tensor]] = getattr(getattr(torch.ops, NAMESPACE), name).default
    return defined


@dataclass(frozen=True, kw_only=True)
class GraphCall:
    """The call of an operator, for a graph that is being built.

    Attributes:
        name: of the operation.
        target: the operator.
        order: all parameters of what computes, in their order.
        defaults: those that they have.
        held: the parameters that an operator has.
        fallback: that of `Op.on`.
    """

    name: str
    target: Callable[..., list[Tensor]]
    order: tuple[str, ...]
    defaults: Mapping[str, object]
    held: tuple[str, ...]
    fallback: str | None

    def why_not(self, *args: object, **kwargs: object) -> str | None:
        """Say which arguments no operator can hold."""
        for name, value in self._given(args, kwargs):
            if isinstance(value, _FORMATS) and FORMATS.get(value.name) != value:
                return f"a graph holds the names of formats, and {value.name} is not in the table as it is here"
            if name != "out" and name not in self.held and value is not None:
                return f"a graph can't hold its {name}; leave it out"
        return None

    def __call__(self, *args: object, **kwargs: object) -> Any:  # noqa: ANN401  # what the operation gives
        """Call the operator."""
        given = dict(self._given(args, kwargs))
        found = self.target(*[_encoded(given[name]) for name in self.held], self.fallback)
        out = given.get("out")
        if out is not None:
            x = given[self.order[0]]
            assert isinstance(out, Tensor)
            assert isinstance(x, Tensor)
            return require_out(out, x).copy_(found[0])
        return tuple(found) if len(found) > 1 else found[0]

    def _given(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Iterator[tuple[str, object]]:
        positional = dict(zip(self.order, args, strict=False))
        unknown = [name for name in kwargs if name not in self.order or name in positional]
        if unknown or len(args) > len(self.order):
            raise TypeError(f"{self.name} takes {', '.join(self.order)}, each once, got {', '.join(unknown) or 'more'}")
        for name in self.order:
            if name in positional:
                yield name, positional[name]
            elif name in kwargs:
                yield name, kwargs[name]
            elif name in self.defaults:
                yield name, self.defaults[name]
            else:
                raise TypeError(f"{self.name} needs {name}")


@cache
def in_graph(op: "Op[..., Any]", backend: str, fn: Callable[..., Any], fallback: str | None) -> GraphCall:
    """Return what stands for `op.on(backend, fallback=fallback)` in a graph; the arguments are those of `operator`."""
    parameters = inspect.signature(fn).parameters
    return GraphCall(
        name=op.name,
        target=operator(op, backend, fn),
        order=tuple(parameters),
        defaults={name: one.default for name, one in parameters.items() if one.default is not one.empty},
        held=tuple(_parameters(fn)),
        fallback=fallback,
    )


def stays_whole(op: "Op[..., Any]", args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    """Whether a graph holds the reference of `op` as an operator; else `torch.compile` traces it.

    It does where the reference looks at values, which no graph can, and on GPUs, for which Inductor contracts and
    approximates. Not where a scale or a bias needs a gradient: operators have none.
    """
    others = [*args[1:], *kwargs.values()]
    if torch.is_grad_enabled() and any(isinstance(one, Tensor) and one.requires_grad for one in others):
        return False
    if op.looks_at_values(*args, **kwargs):
        return True
    return any(isinstance(one, Tensor) and one.device.type in _CONTRACTED for one in (*args, *kwargs.values()))


def _own(x: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """A contiguous result that shares memory with no argument, as operators promise."""
    start = x.untyped_storage().data_ptr()
    shares = x.numel() and any(y.untyped_storage().data_ptr() == start for y in inputs)
    return x.clone(memory_format=torch.contiguous_format) if shares else x.contiguous()
