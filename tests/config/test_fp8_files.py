import json
from pathlib import Path

import pytest

from incref.config.fp8 import FP8Config
from incref.config.fp8_files import read_fields
from incref.errors import UnsupportedError

# As huggingface/optimum-habana, examples/text-generation/quantization_config, has them at 0d4f146d and 055e3e94.
QUANT = {
    "method": "HOOKS",
    "mode": "QUANTIZE",
    "observer": "maxabs",
    "scale_method": "maxabs_hw",
    "whitelist": {"types": [], "names": []},
    "blacklist": {"types": [], "names": ["lm_head"]},
    "dump_stats_path": "./hqt_output/measure",
    "dump_stats_xlsx_path": "./hqt_output/measure/fp8stats.xlsx",
}
MEASURE = {
    "method": "HOOKS",
    "mode": "MEASURE",
    "observer": "maxabs",
    "measure_exclude": "NONE",
    "allowlist": {"types": [], "names": []},
    "blocklist": {"types": [], "names": []},
    "dump_stats_path": "./hqt_output/measure",
}
NOTHING: dict[str, list[str]] = {"names": [], "types": []}


def test_files_of_neural_compressor(tmp_path: Path) -> None:
    (tmp_path / "quant.json").write_text(json.dumps(QUANT))
    assert FP8Config.from_json_file(tmp_path / "quant.json") == FP8Config(
        mode="QUANTIZE", allowlist=NOTHING, blocklist={"names": ["lm_head"]}
    )
    assert FP8Config.from_dict(MEASURE) == FP8Config(mode="MEASURE", measure_exclude="NONE", allowlist=NOTHING)


def test_letters_of_names() -> None:
    written = {
        "scale_method": "MAXABS_POW2",
        "scale_format": "CONST",
        "fp8_config": "e5m2",
        "dump_stats_path": "./Path",
    }
    assert FP8Config.from_dict(written) == FP8Config(
        scale_method="maxabs_pow2", scale_format="const", fp8_config="E5M2", dump_stats_path="./Path"
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("method", "OTHER", "method must be 'HOOKS', got 'OTHER'; there is one"),
        ("device_for_scales", "GAUDI3", "got 'GAUDI3'; set target"),
        ("ignore_modules_wo_measures", True, "must be False, got True; measure them"),
        ("row_parallel_linear_allreduce_quantization", True, "must be False, got True"),
        ("calibration_sample_interval", 2, "must be 0, got 2"),
    ],
)
def test_what_is_not_there(key: str, value: object, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        read_fields({key: value})  # type: ignore[dict-item]  # JSON


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="allowlist is also called whitelist; give one of them"):
        FP8Config.from_dict({"whitelist": {}, "allowlist": {}})
    with pytest.raises(TypeError, match="FP8Config has no field 'scale_mehtod'"):
        FP8Config.from_dict({"scale_mehtod": "maxabs_hw"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'method'"):
        FP8Config(method="HOOKS")  # type: ignore[call-arg]  # that is the point
