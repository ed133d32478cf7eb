from incref.autotune.label import label
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.config.scheme import LayerScheme
from incref.config.schemes import SCHEMES
from incref.formats import FORMATS
from incref.qtensor.spec import QuantSpec


def test_what_is_not_the_default_is_named() -> None:
    assert label(RTNConfig()) == "RTNConfig()"
    assert label(RTNConfig(group_size=128, use_sym=False)) == "RTNConfig(use_sym=False, group_size=128)"


def test_local_rules_are_counted() -> None:
    config = RTNConfig(bits=2).set_local(["a", "b"], MXQuantConfig()).set_local("c", RTNConfig(bits=8))
    assert label(config) == "RTNConfig(bits=2), locally 2 MXQuantConfig(), 1 RTNConfig(bits=8)"


def test_a_mix_is_its_rules() -> None:
    mix = RTNConfig(white_list=None)
    assert label(mix) == "RTNConfig(white_list=None)"
    mix.set_local(["a", "b"], RTNConfig(bits=8)).set_local("c", RTNConfig(bits=2))
    assert label(mix) == "2 RTNConfig(bits=8), 1 RTNConfig(bits=2)"


def test_schemes_have_the_names_of_their_rows() -> None:
    assert label(SCHEMES["nvfp4_w4a4"]) == "nvfp4_w4a4"
    other = LayerScheme(weight=QuantSpec(fmt=FORMATS["int8"]))
    assert label(other) == repr(other)
