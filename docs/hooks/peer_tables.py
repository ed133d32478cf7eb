"""The public names of `neural_compressor.torch.quantization`, and what incref has of them."""

from markdown_cells import code, table

import incref

__all__ = ["peer_names"]

# Those of neural-compressor-pt 3.10.
PEER_NAMES = (
    "prepare", "convert", "quantize", "finalize_calibration", "autotune", "TuningConfig", "save", "load",
    "RTNConfig", "GPTQConfig", "FP8Config", "MXQuantConfig", "StaticQuantConfig", "INT8StaticQuantConfig",
    "DynamicQuantConfig", "SmoothQuantConfig", "MixedPrecisionConfig", "AWQConfig", "TEQConfig", "HQQConfig",
    "AutoRoundConfig", "HybridGPTQConfig", "get_default_rtn_config", "get_default_gptq_config",
    "get_default_fp8_config", "get_default_fp8_config_set", "get_default_mx_config", "get_default_static_config",
    "get_default_dynamic_config", "get_default_sq_config", "get_default_mixed_precision_config",
    "get_default_mixed_precision_config_set", "get_default_double_quant_config",
    "get_rtn_double_quant_config_set", "get_woq_tuning_config", "get_all_config_set", "get_default_awq_config",
    "get_default_teq_config", "get_default_hqq_config", "get_default_AutoRound_config",
)  # fmt: skip


def peer_names() -> str:
    """All names, those that are here first."""
    rows = [
        [", ".join(code(name) for name in PEER_NAMES if hasattr(incref, name) is has), what] for has, what in _KINDS
    ]
    return table(["names", ""], rows)


_KINDS = ((True, "in `incref`"), (False, "not there"))
