"""A bit-exact numerical reference for low-precision deep learning."""

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
