import struct

from incref_kernels.triton.native.printing import formatted


def word(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little", signed=True)


def test_fields_are_filled_in_order() -> None:
    text = "pid (%u, %u, %u) idx (%4u) v: %f\n"
    assert formatted(text, [1, 2, 3, 17, word(-0.5)]) == "pid (1, 2, 3) idx (  17) v: -0.500000\n"


def test_signs_and_bases() -> None:
    assert formatted("%lli %i 0x%08x %%", [-1, 5, 255]) == "-1 5 0x000000ff %"
