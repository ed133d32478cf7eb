"""`FP8Config`: weights and inputs in FP8."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from torch import nn
from typing_extensions import Self

from incref.config.base import EVERYTHING, BaseConfig, WhiteList
from incref.config.fp8_described import ScaleMethods, read_scale_methods, with_choices
from incref.config.fp8_files import read_fields
from incref.config.fp8_methods import SCALE_METHODS, TARGETS, ScaleMethod, Sharing
from incref.config.rules import LINEAR, Layer
from incref.config.scheme import InputScheme, LayerScheme
from incref.config.space import NamedOrDescribed
from incref.errors import UnsupportedError
from incref.formats import FORMATS, FloatFormat, ScaleArithmetic
from incref.nn.inputs_only import InputsOnly
from incref.nn.kv_cache import KVCache
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN
from incref.qtensor.format_json import Json
from incref.qtensor.spec import QuantSpec

__all__ = ["FP8Config", "get_default_fp8_config", "get_default_fp8_config_set"]

_MODES = ("AUTO", "MEASURE", "QUANTIZE", "NONE")
_OBSERVERS = ("maxabs", "maxabs_per_channel")
_KEYS = ("names", "types")

NameLists = Mapping[str, list[str] | tuple[str, ...]]
"""Which layers: `{"names": [expression, ...], "types": [class name, ...]}`."""


_EVERYTHING = ("Linear", "Conv1D", "Conv2d", "EmbeddingBag", "Matmul", "KVCache")
"""The classes that are quantized if nothing else is said."""


def _everything() -> NameLists:
    return {"names": [], "types": list(_EVERYTHING)}


def _nothing() -> NameLists:
    return {"names": [], "types": ()}


@dataclass(frozen=True)
class FP8Config(BaseConfig):
    """Weights and inputs of layers and products in FP8, with scales that calibration data gives.

    Layers are linear ones, convolutions, and embeddings, of which the weight alone is quantized; of `Matmul` and
    `KVCache` it is the inputs.

    An input becomes `encode(x * (1 / scale))`, the product in float32; weights likewise. Gaudi computes the product in
    the dtype of the input, and so is it computed for those targets (`QuotientDtype.INPUT`).

    Attributes:
        dump_stats_path: the beginning of the path of the file that `finalize_calibration` writes, and that the mode
            QUANTIZE reads: `{dump_stats_path}_{observer}.json`.
        fp8_config: "E4M3" (that of the target) or "E5M2".
        hp_dtype: accepted and without effect: results have the dtype of the input.
        blocklist: layers that are left alone: expressions that are found in their names, and names of their classes.
        allowlist: layers that are not; if both lists are empty, those of the default list. An `nn.Embedding` has to be
            named, or its class. What the model has nothing of is a `ValueError`, here and in `blocklist`.
        mode: "AUTO": calls of the prepared model calibrate it. "MEASURE": likewise, and `convert` is not for it.
            "QUANTIZE": what was measured is read from the file. "NONE": no layer changes.
        scale_method: a name of `SCALE_METHODS`; or a dict of what scales are, for all layers and for some: see
            `read_scale_methods`.
        scale_params: `{"weight_scales": [...]}`: powers of two that a method with a search chooses from, in place of
            its own; empty for those.
        observer: "maxabs": the largest magnitude of every input is measured. "maxabs_per_channel": that of every
            channel, too, and written to a file beside the other; scales are the same.
        mod_dict: has to be empty.
        measure_exclude: accepted and without effect: inputs alone are measured.
        fake_quant: has to be False.
        use_qdq: accepted and without effect: the product is always that of the dequantized values.
        scale_format: accepted and without effect.
        measure_on_hpu: likewise.
        white_list: the layers that the configuration speaks of, before `allowlist` and `blocklist`.
        dynamic_quantization: whether scales of inputs are found in every call. Methods with scales for each token, or
            blocks of it, are always so.
        target: the machine that is meant: "gaudi2" (E4M3 up to 240), "gaudi3" or "ocp" (up to 448). It decides which
            scales are aligned to the hardware; to "ocp" every power of two is.

    Raises:
        TypeError: for a field of the wrong type, or one that there isn't.
        ValueError: for a value that is not listed above; the message lists them.
        UnsupportedError: for `mod_dict`, `fake_quant` and another `observer`.
    """

    name: ClassVar[str] = "fp8_quant"

    dump_stats_path: str = "./hqt_output/measure"
    fp8_config: str = "E4M3"
    hp_dtype: str = "bf16"
    blocklist: NameLists = field(default_factory=_nothing)
    allowlist: NameLists = field(default_factory=_everything)
    mode: str = "AUTO"
    scale_method: NamedOrDescribed = "maxabs_hw"
    scale_params: Mapping[str, object] = field(default_factory=dict)
    observer: str = "maxabs"
    mod_dict: Mapping[str, object] = field(default_factory=dict)
    measure_exclude: str = "OUTPUT"
    fake_quant: bool = False
    use_qdq: bool = False
    scale_format: str = "scalar"
    measure_on_hpu: bool = True
    white_list: WhiteList = EVERYTHING
    dynamic_quantization: bool = False
    target: str = "ocp"

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("blocklist", "allowlist"):
            lists = getattr(self, name)
            if not isinstance(lists, dict) or not set(lists) <= set(_KEYS):
                raise ValueError(f'{name} is a dict with the keys "names" and "types", got {lists!r}')
            object.__setattr__(self, name, {key: _names(f"{name}[{key!r}]", lists.get(key, ())) for key in _KEYS})
        for name in ("scale_params", "mod_dict"):
            if not isinstance(getattr(self, name), dict):
                raise TypeError(f"{name} must be a dict, got {getattr(self, name)!r}")
        super().__post_init__()

    @property
    def kinds(self) -> tuple[type[Layer], ...]:
        """The classes of layers that the configuration speaks of."""
        return (*LINEAR, nn.Conv2d, nn.Embedding, nn.EmbeddingBag)

    @property
    def measurements(self) -> Path | None:
        """The file of what was measured."""
        return Path(f"{self.dump_stats_path}_{self.observer}.json")

    @property
    def measures_channels(self) -> bool:
        """Whether the channels of inputs are measured one by one."""
        return self.observer == "maxabs_per_channel"

    @property
    def reads_measurements(self) -> bool:
        """Whether what was measured is read from that file."""
        return self.mode == "QUANTIZE"

    @property
    def only_measures(self) -> bool:
        """Whether a model is prepared to write that file, and for nothing else."""
        return self.mode == "MEASURE"

    def scheme(self) -> LayerScheme | None:
        """What a linear layer becomes; None in the mode NONE."""
        self.require_one()
        self._check()
        return None if self.mode == "NONE" else self._scheme(self._methods().default, ndim=2)

    def scheme_for(self, name: str, layer: Layer) -> LayerScheme | None:
        """What `layer`, called `name`, becomes; None if a list leaves it alone."""
        if self.mode == "NONE" or not self._is_chosen(name, type(layer).__name__):
            return None
        scheme = self._scheme(self._methods().of(name, type(layer).__name__), ndim=layer.weight.ndim)
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            # Its input is numbers of rows.
            return LayerScheme(weight=scheme.weight, weight_scale=scheme.weight_scale)
        return scheme

    def inputs_for(self, name: str, module: InputsOnly) -> InputScheme | None:
        """What happens to the inputs of `module`, called `name`; None if a list leaves it alone."""
        if self.mode == "NONE" or not self._is_chosen(name, type(module).__name__):
            return None
        scheme = self._scheme(self._methods().of(name, type(module).__name__), ndim=2)
        assert scheme.activation is not None
        activation = scheme.activation
        if isinstance(module, KVCache) and not scheme.is_static and activation.granularity == PER_TENSOR:
            # A cache grows, so what is kept can't share a scale with what comes later.
            activation = replace(activation, granularity=PER_TOKEN)
        return InputScheme(activation=activation, input_scale=scheme.input_scale, is_static=scheme.is_static)

    @classmethod
    def from_dict(cls, described: dict[str, Json]) -> Self:
        """Make a configuration of what `to_dict` gives, or of what files for Neural Compressor hold: see `read_fields`.

        Raises:
            TypeError: for a field that there isn't, or one of the wrong type.
            ValueError: for a value that is not listed.
            UnsupportedError: for what is not there.
        """
        return super().from_dict(read_fields(described))

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for: both formats of FP8."""
        return cls(fp8_config=["E4M3", "E5M2"])  # type: ignore[arg-type]  # a list of what a field holds is a search space

    def require_found(self, model: nn.Module) -> None:
        """Check that `model` has the nodes of `scale_method`, and modules for every entry of the lists.

        Classes of the default list need not be there.

        Raises:
            ValueError: if it lacks one.
        """
        modules = {name: module for name, module in model.named_modules() if name}
        layers = [name for name, module in modules.items() if isinstance(module, Layer | InputsOnly)]
        for node in self._methods().nodes:
            if node not in layers:
                raise ValueError(f"a node of scale_method is the name of a layer, and there is no {node!r}")
        types = {*_EVERYTHING, *(type(module).__name__ for module in modules.values())}
        for field_name, lists in (("blocklist", self.blocklist), ("allowlist", self.allowlist)):
            for pattern in lists["names"]:
                if not any(re.search(pattern, name) for name in modules):
                    raise ValueError(f"{field_name}: {pattern!r} is found in no name of the model; leave it out")
            for kind in lists["types"]:
                if kind not in types:
                    near = difflib.get_close_matches(kind, types, n=3)
                    nearest = f"; nearest: {', '.join(near)}" if near else ""
                    raise ValueError(f"{field_name}: no module of the model is of the class {kind!r}{nearest}")

    def _methods(self) -> ScaleMethods:
        given = self.scale_method
        methods = ScaleMethods(default=SCALE_METHODS[given]) if isinstance(given, str) else read_scale_methods(given)
        return replace(methods, default=with_choices(methods.default, self.scale_params))

    def _scheme(self, method: ScaleMethod, ndim: int) -> LayerScheme:
        target = TARGETS[self.target]
        fmt = target.e4m3 if self.fp8_config == "E4M3" else _e5m2()
        weight = QuantSpec(
            fmt=fmt,
            granularity=method.weight_shares.of_weight(ndim),
            arithmetic=ScaleArithmetic.RECIPROCAL,
            quotient=target.quotient,
        )
        activation = QuantSpec(
            fmt=fmt,
            # A convolution has no tokens along its last dimension.
            granularity=method.activation_shares.of_input if ndim == 2 else PER_TENSOR,
            arithmetic=ScaleArithmetic.RECIPROCAL,
            quotient=target.quotient,
        )
        return LayerScheme(
            weight=weight,
            activation=activation,
            weight_scale=method.of_weight(target),
            input_scale=method.of_activation(target),
            is_static=not self.dynamic_quantization and method.activation_shares is Sharing.TENSOR,
        )

    def _is_chosen(self, name: str, kind: str) -> bool:
        if kind in self.blocklist["types"] or _is_found(self.blocklist["names"], name):
            return False
        names, types = self.allowlist["names"], self.allowlist["types"]
        if not (names or types):
            return kind in _EVERYTHING
        return kind in types or _is_found(names, name)

    def _check(self) -> None:
        _one_of("fp8_config", self.fp8_config, ("E4M3", "E5M2"))
        _one_of("hp_dtype", self.hp_dtype, ("bf16", "fp16", "fp32"))
        _one_of("measure_exclude", self.measure_exclude, ("NONE", "INPUT", "OUTPUT", "PARAMS", "ALL"))
        _one_of("scale_format", self.scale_format, ("scalar", "const"))
        if isinstance(self.scale_method, str):
            _one_of("scale_method", self.scale_method, tuple(SCALE_METHODS))
        self._methods()
        _one_of("target", self.target, tuple(TARGETS))
        if self.mode in ("LOAD", "SHAPE"):
            raise UnsupportedError(f"mode {self.mode!r} is not there; a saved model is read by incref.load")
        _one_of("mode", self.mode, _MODES)
        if self.observer not in _OBSERVERS:
            raise UnsupportedError(f"observer must be one of {', '.join(_OBSERVERS)}, got {self.observer!r}")
        for name, value in (("mod_dict", self.mod_dict), ("fake_quant", self.fake_quant)):
            if value:
                raise UnsupportedError(f"{name} is not there; leave it out, got {value!r}")
        for name, lists in (("blocklist", self.blocklist), ("allowlist", self.allowlist)):
            for pattern in lists["names"]:
                _check_expression(name, pattern)


def _names(name: str, given: object) -> list[str]:
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise ValueError(f"{name} is a list of strings, got {given!r}")
    return list(given)


def _check_expression(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{name} names layers by regular expressions, got {pattern!r}: {error}") from error


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _is_found(patterns: list[str] | tuple[str, ...], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _e5m2() -> FloatFormat:
    fmt = FORMATS["float8_e5m2"]
    assert isinstance(fmt, FloatFormat)
    return fmt


def get_default_fp8_config() -> FP8Config:
    """Make the default configuration: E4M3, scales aligned to the hardware, static inputs."""
    return FP8Config()


def get_default_fp8_config_set() -> FP8Config:
    """Make the configurations to try first: the default one."""
    return FP8Config()
