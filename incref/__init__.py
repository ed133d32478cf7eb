"""A bit-exact numerical reference for low-precision deep learning."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from incref.autotune.autotune import autotune
    from incref.autotune.metric import Metric
    from incref.autotune.result import TuningResult
    from incref.autotune.sampler import SequentialSampler
    from incref.autotune.sensitivity import SensitivitySampler
    from incref.autotune.tune import tune
    from incref.autotune.tuning_config import TuningConfig
    from incref.config.double_quant_presets import get_default_double_quant_config, get_rtn_double_quant_config_set
    from incref.config.fp8 import FP8Config, get_default_fp8_config, get_default_fp8_config_set
    from incref.config.gptq import GPTQConfig, get_default_gptq_config
    from incref.config.int8_dynamic import DynamicQuantConfig, get_default_dynamic_config
    from incref.config.int8_static import INT8StaticQuantConfig, StaticQuantConfig, get_default_static_config
    from incref.config.mixed_precision import (
        MixedPrecisionConfig,
        get_default_mixed_precision_config,
        get_default_mixed_precision_config_set,
    )
    from incref.config.mx import MXQuantConfig, get_default_mx_config
    from incref.config.rtn import RTNConfig, get_default_rtn_config
    from incref.config.scheme import LayerScheme
    from incref.config.schemes import SCHEMES
    from incref.config.smooth_quant import SmoothQuantConfig, get_default_sq_config
    from incref.config.tuning_sets import get_all_config_set, get_woq_tuning_config
    from incref.modules.transformers_attention import expose_attention
    from incref.modules.transformers_cache import quantized_cache
    from incref.nn.attention import Attention
    from incref.nn.kv_cache import KVCache
    from incref.nn.matmul import Matmul
    from incref.qtensor.qtensor import QTensor
    from incref.qtensor.spec import QuantSpec
    from incref.workflow.convert import convert
    from incref.workflow.finalize_calibration import finalize_calibration
    from incref.workflow.load import load
    from incref.workflow.prepare import prepare
    from incref.workflow.prepare_qat import prepare_qat
    from incref.workflow.quantize import quantize
    from incref.workflow.save import save

__all__ = [
    "SCHEMES",
    "Attention",
    "DynamicQuantConfig",
    "FP8Config",
    "GPTQConfig",
    "INT8StaticQuantConfig",
    "KVCache",
    "LayerScheme",
    "MXQuantConfig",
    "Matmul",
    "Metric",
    "MixedPrecisionConfig",
    "QTensor",
    "QuantSpec",
    "RTNConfig",
    "SensitivitySampler",
    "SequentialSampler",
    "SmoothQuantConfig",
    "StaticQuantConfig",
    "TuningConfig",
    "TuningResult",
    "autotune",
    "convert",
    "expose_attention",
    "finalize_calibration",
    "get_all_config_set",
    "get_default_double_quant_config",
    "get_default_dynamic_config",
    "get_default_fp8_config",
    "get_default_fp8_config_set",
    "get_default_gptq_config",
    "get_default_mixed_precision_config",
    "get_default_mixed_precision_config_set",
    "get_default_mx_config",
    "get_default_rtn_config",
    "get_default_sq_config",
    "get_default_static_config",
    "get_rtn_double_quant_config_set",
    "get_woq_tuning_config",
    "load",
    "prepare",
    "prepare_qat",
    "quantize",
    "quantized_cache",
    "save",
    "tune",
]

_HOMES = {
    "Attention": "incref.nn.attention",
    "DynamicQuantConfig": "incref.config.int8_dynamic",
    "FP8Config": "incref.config.fp8",
    "GPTQConfig": "incref.config.gptq",
    "INT8StaticQuantConfig": "incref.config.int8_static",
    "KVCache": "incref.nn.kv_cache",
    "LayerScheme": "incref.config.scheme",
    "MXQuantConfig": "incref.config.mx",
    "Matmul": "incref.nn.matmul",
    "Metric": "incref.autotune.metric",
    "MixedPrecisionConfig": "incref.config.mixed_precision",
    "QTensor": "incref.qtensor.qtensor",
    "QuantSpec": "incref.qtensor.spec",
    "RTNConfig": "incref.config.rtn",
    "SCHEMES": "incref.config.schemes",
    "SensitivitySampler": "incref.autotune.sensitivity",
    "SequentialSampler": "incref.autotune.sampler",
    "SmoothQuantConfig": "incref.config.smooth_quant",
    "StaticQuantConfig": "incref.config.int8_static",
    "TuningConfig": "incref.autotune.tuning_config",
    "TuningResult": "incref.autotune.result",
    "autotune": "incref.autotune.autotune",
    "convert": "incref.workflow.convert",
    "expose_attention": "incref.modules.transformers_attention",
    "finalize_calibration": "incref.workflow.finalize_calibration",
    "get_all_config_set": "incref.config.tuning_sets",
    "get_default_double_quant_config": "incref.config.double_quant_presets",
    "get_default_dynamic_config": "incref.config.int8_dynamic",
    "get_default_fp8_config": "incref.config.fp8",
    "get_default_fp8_config_set": "incref.config.fp8",
    "get_default_gptq_config": "incref.config.gptq",
    "get_default_mixed_precision_config": "incref.config.mixed_precision",
    "get_default_mixed_precision_config_set": "incref.config.mixed_precision",
    "get_default_mx_config": "incref.config.mx",
    "get_default_rtn_config": "incref.config.rtn",
    "get_default_sq_config": "incref.config.smooth_quant",
    "get_default_static_config": "incref.config.int8_static",
    "get_rtn_double_quant_config_set": "incref.config.double_quant_presets",
    "get_woq_tuning_config": "incref.config.tuning_sets",
    "load": "incref.workflow.load",
    "prepare": "incref.workflow.prepare",
    "prepare_qat": "incref.workflow.prepare_qat",
    "quantize": "incref.workflow.quantize",
    "quantized_cache": "incref.modules.transformers_cache",
    "save": "incref.workflow.save",
    "tune": "incref.autotune.tune",
}
"""Where every public name is defined; its module is imported when the name is first asked for."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


class _Package(ModuleType):
    """This package. `autotune` is a function of it, also once the package of that name inside it was imported."""

    def __setattr__(self, name: str, value: object) -> None:
        """Bind a name, but no module to one that is public."""
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
