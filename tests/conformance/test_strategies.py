from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from incref.conformance.strategies import codes, float_tensors, formats, shapes
from incref.formats import BlockFormat, Format, NanRule
from incref.ops import decode, encode

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@quick
@given(st.data())
def test_tensors_have_their_shapes(data: st.DataObject) -> None:
    shape = data.draw(shapes(8))
    assert data.draw(float_tensors(shape, near="mxfp4")).shape == shape


@quick
@given(float_tensors((5, 7), near="float6_e2m3fn"))
def test_codes_come_back(x: Tensor) -> None:
    found = encode(x, "float6_e2m3fn", nan=NanRule.ZERO)
    assert (encode(decode(found, "float6_e2m3fn"), "float6_e2m3fn") == found).all()


@quick
@given(codes((4, 6), "int4"))
def test_codes_are_in_range(found: Tensor) -> None:
    assert int(found.min()) >= -8
    assert int(found.max()) <= 7


@quick
@given(formats(blocks=True), formats())
def test_formats_are_of_the_kind_that_is_asked_for(block: Format, element: Format) -> None:
    assert isinstance(block, BlockFormat)
    assert not isinstance(element, BlockFormat)
