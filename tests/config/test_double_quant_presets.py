import pytest

from incref.config.double_quant_presets import get_default_double_quant_config, get_rtn_double_quant_config_set
from incref.config.rtn import RTNConfig


def test_presets() -> None:
    nf4, q4_k = get_rtn_double_quant_config_set()
    assert nf4 == get_default_double_quant_config() == get_default_double_quant_config("BNB_NF4")
    assert nf4 == RTNConfig(dtype="nf4", group_size=32, use_double_quant=True)
    assert q4_k == RTNConfig(
        use_sym=False,
        group_size=32,
        use_double_quant=True,
        double_quant_bits=6,
        double_quant_use_sym=True,
        double_quant_group_size=8,
    )
    with pytest.raises(ValueError, match="BNB_NF4, GGML_TYPE_Q4_K, got 'GGUF'"):
        get_default_double_quant_config("GGUF")


def test_rules_of_one_are_not_those_of_the_next() -> None:
    get_default_double_quant_config().set_local("x", RTNConfig())
    assert not get_default_double_quant_config().local_rules
