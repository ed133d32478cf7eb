"""Faults of `decode`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from incref.formats import FORMATS, FloatFormat, Specials
from incref.numerics.patterns import FLOAT_DTYPES
from incref.ops import decode


class _Decode(Kernel):
    op = "decode"

    def __call__(self, codes: Tensor, fmt: str, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Decode."""
        return self.change(decode(codes, fmt, dtype=dtype), codes, FORMATS[fmt])

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        return values


class DecodeByTable(_Decode):
    """Looks every code up in a table."""

    is_right = True

    def __call__(self, codes: Tensor, fmt: str, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Decode."""
        table = torch.tensor(FORMATS[fmt].values, dtype=dtype)
        return table[codes.to(torch.int64) % table.numel()]


class DecodeNanAsNumber(_Decode):
    """The NaN of E4M3 is read as the next number, 480."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        return torch.where(values.isnan(), 480.0, values)


class DecodeInfAsNumber(_Decode):
    """The Inf of E5M2 is read as the next number, 65536."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        return torch.where(values.isinf() & (values > 0), 65536.0, values)


class DecodeFnuzWithOcpBias(_Decode):
    """Codes of the fnuz formats are read with the bias of the OCP ones: half of everything."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        return values * 2 if isinstance(fmt, FloatFormat) and fmt.specials is Specials.FNUZ else values


class DecodeSubnormalsFlushed(_Decode):
    """Subnormal codes are read as zero."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        if not isinstance(fmt, FloatFormat) or not fmt.has_zero:
            return values
        return torch.where(values.abs() < fmt.smallest_normal, 0 * values, values)


class DecodeZeroSignLost(_Decode):
    """-0 is read as +0."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        return values + 0.0


class DecodeFp4StepWrong(_Decode):
    """The least value of E2M1 is taken for 0.25: the subnormal counts as a normal number."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        return torch.where(values.abs() == 0.5, values / 2, values) if fmt is FORMATS["float4_e2m1fn"] else values


class DecodeSignNotExtended(_Decode):
    """The sign of narrow integers is not extended."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        return torch.where(values < 0, values + fmt.num_codes, values) if codes.dtype is torch.int8 else values


class DecodeE8m0LeastIsZero(_Decode):
    """The code 0x00 of E8M0 is shifted into the exponent field, which makes 0 of 2**-127."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        return torch.where(codes == 0, 0.0, values).to(values.dtype) if fmt is FORMATS["float8_e8m0fnu"] else values


class DecodeE8m0NanIsInf(_Decode):
    """The code 0xFF of E8M0 is shifted into the exponent field, which makes Inf of NaN."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        return torch.where(codes == 255, torch.inf, values) if fmt is FORMATS["float8_e8m0fnu"] else values


class DecodeToBfloat16Only(_Decode):
    """Values go through bfloat16, which has too few bits for some integers."""

    def change(self, values: Tensor, codes: Tensor, fmt: object) -> Tensor:
        assert values.dtype in FLOAT_DTYPES
        return (values.to(torch.bfloat16) * 1.0).to(values.dtype) if codes.dtype is torch.uint8 else values
