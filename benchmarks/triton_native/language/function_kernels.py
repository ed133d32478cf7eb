"""The functions of the language that kernels apply, one a name."""

import triton
import triton.language as tl

__all__ = [
    "absolute",
    "add",
    "argmax",
    "argmax_of_columns",
    "argmin",
    "assembly",
    "bit_and",
    "bit_or",
    "bit_xor",
    "cat",
    "cdiv",
    "ceil",
    "clamp",
    "cos",
    "cumprod",
    "cumsum",
    "cumsum_of_columns",
    "cumsum_reverse",
    "div_rn",
    "equal",
    "erf",
    "exp",
    "exp2",
    "expand_and_broadcast",
    "fdiv",
    "flip",
    "floor",
    "floordiv",
    "fma",
    "full",
    "gather_reversed",
    "greater",
    "greatest",
    "histogram",
    "interleave",
    "invert",
    "join",
    "least",
    "less",
    "less_equal",
    "log",
    "log2",
    "map_elementwise",
    "maximum",
    "maximum_number",
    "minimum",
    "minimum_number",
    "mod",
    "mul",
    "multiply_add",
    "neg",
    "not_equal",
    "permute3",
    "product",
    "rand",
    "randint",
    "randint4x",
    "randn",
    "ravel",
    "recurrence",
    "reduce_or",
    "rsqrt",
    "shift_left",
    "shift_right",
    "sin",
    "softmax",
    "sort",
    "sort_descending",
    "split",
    "sqrt",
    "sqrt_rn",
    "sub",
    "topk",
    "total",
    "total_of_columns",
    "trans",
    "truediv",
    "umulhi",
    "view_wide",
    "where_greater",
    "xor_sum",
    "zeros_like",
]


@triton.jit
def neg(x):
    return -x


@triton.jit
def absolute(x):
    return tl.abs(x)


@triton.jit
def invert(x):
    return ~x


@triton.jit
def floor(x):
    return tl.floor(x)


@triton.jit
def ceil(x):
    return tl.ceil(x)


@triton.jit
def sqrt(x):
    return tl.sqrt(x)


@triton.jit
def sqrt_rn(x):
    return tl.sqrt_rn(x)


@triton.jit
def rsqrt(x):
    return tl.rsqrt(x)


@triton.jit
def exp(x):
    return tl.exp(x)


@triton.jit
def exp2(x):
    return tl.exp2(x)


@triton.jit
def log(x):
    return tl.log(x)


@triton.jit
def log2(x):
    return tl.log2(x)


@triton.jit
def sin(x):
    return tl.sin(x)


@triton.jit
def cos(x):
    return tl.cos(x)


@triton.jit
def erf(x):
    return tl.erf(x)


@triton.jit
def add(x, y):
    return x + y


@triton.jit
def sub(x, y):
    return x - y


@triton.jit
def mul(x, y):
    return x * y


@triton.jit
def truediv(x, y):
    return x / y


@triton.jit
def floordiv(x, y):
    return x // y


@triton.jit
def mod(x, y):
    return x % y


@triton.jit
def bit_and(x, y):
    return x & y


@triton.jit
def bit_or(x, y):
    return x | y


@triton.jit
def bit_xor(x, y):
    return x ^ y


@triton.jit
def shift_left(x, y):
    return x << y


@triton.jit
def shift_right(x, y):
    return x >> y


@triton.jit
def less(x, y):
    return x < y


@triton.jit
def less_equal(x, y):
    return x <= y


@triton.jit
def equal(x, y):
    return x == y


@triton.jit
def not_equal(x, y):
    return x != y


@triton.jit
def greater(x, y):
    return x > y


@triton.jit
def maximum(x, y):
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(x, y):
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def maximum_number(x, y):
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.NONE)


@triton.jit
def minimum_number(x, y):
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.NONE)


@triton.jit
def div_rn(x, y):
    return tl.div_rn(x, y)


@triton.jit
def fdiv(x, y):
    return tl.fdiv(x, y)


@triton.jit
def umulhi(x, y):
    return tl.umulhi(x, y)


@triton.jit
def where_greater(x, y):
    return tl.where(x > y, x, y)


@triton.jit
def cdiv(x, y):
    return tl.cdiv(x, y)


@triton.jit
def fma(x, y, w):
    return tl.fma(x, y, w)


@triton.jit
def multiply_add(x, y, w):
    return x * y + w


@triton.jit
def clamp(x, y, w):
    return tl.clamp(x, y, w, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def total(x):
    return tl.sum(x, 1)


@triton.jit
def total_of_columns(x):
    return tl.sum(x, 0)


@triton.jit
def greatest(x):
    return tl.max(x, 1)


@triton.jit
def least(x):
    return tl.min(x, 1)


@triton.jit
def argmax(x):
    return tl.argmax(x, 1)


@triton.jit
def argmin(x):
    return tl.argmin(x, 1)


@triton.jit
def argmax_of_columns(x):
    return tl.argmax(x, 0)


@triton.jit
def xor_sum(x):
    return tl.xor_sum(x, 1)


@triton.jit
def reduce_or(x):
    return tl.reduce_or(x, 1)


@triton.jit
def _product(x, y):
    return x * y


@triton.jit
def product(x):
    return tl.reduce(x, 1, _product)


@triton.jit
def _linear(slope, start, next_slope, next_start):
    return slope * next_slope, start * next_slope + next_start


@triton.jit
def cumsum(x):
    return tl.cumsum(x, 1)


@triton.jit
def cumsum_of_columns(x):
    return tl.cumsum(x, 0)


@triton.jit
def cumsum_reverse(x):
    return tl.cumsum(x, 1, reverse=True)


@triton.jit
def cumprod(x):
    return tl.cumprod(x, 1)


@triton.jit
def recurrence(x):
    return tl.associative_scan((x, x), 1, _linear)[1]


@triton.jit
def sort(x):
    return tl.sort(x, 1)


@triton.jit
def sort_descending(x):
    return tl.sort(x, 1, descending=True)


@triton.jit
def topk(x):
    return tl.topk(x, 8, 1)


@triton.jit
def softmax(x):
    return tl.softmax(x, 1)


@triton.jit
def flip(x):
    return tl.flip(x, 1)


@triton.jit
def trans(x):
    return tl.trans(x)


@triton.jit
def permute3(x):
    return tl.permute(tl.reshape(x, (4, x.shape[0] // 4, x.shape[1])), (2, 0, 1))


@triton.jit
def ravel(x):
    return tl.ravel(x)


@triton.jit
def view_wide(x):
    return tl.view(x, (x.shape[0] // 2, x.shape[1] * 2))


@triton.jit
def join(x):
    return tl.join(x, x)


@triton.jit
def split(x):
    return tl.split(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)))[1]


@triton.jit
def interleave(x):
    return tl.interleave(x, x)


@triton.jit
def expand_and_broadcast(x):
    return tl.broadcast_to(tl.expand_dims(x, 1), (x.shape[0], 2, x.shape[1]))


@triton.jit
def gather_reversed(x):
    index = tl.broadcast_to(x.shape[1] - 1 - tl.arange(0, x.shape[1])[None, :], x.shape)
    return tl.gather(x, index, 1)


@triton.jit
def cat(x):
    return tl.cat(x, x, can_reorder=True)


@triton.jit
def histogram(x):
    return tl.histogram(x, 16)


@triton.jit
def full(x):
    return tl.full(x.shape, 3, x.dtype)


@triton.jit
def zeros_like(x):
    return tl.zeros_like(x)


@triton.jit
def randint(at):
    return tl.randint(1234, at)


@triton.jit
def rand(at):
    return tl.rand(1234, at)


@triton.jit
def randn(at):
    return tl.randn(1234, at)


@triton.jit
def randint4x(at):
    return tl.randint4x(1234, at)[3]


@triton.jit
def assembly(x):
    return tl.inline_asm_elementwise("v_mov_b32 $0, $1", "=v,v", [x], x.dtype, is_pure=True, pack=1)


@triton.jit
def _halved(x):
    return x // 2


@triton.jit
def map_elementwise(x):
    return tl.map_elementwise(_halved, x)
