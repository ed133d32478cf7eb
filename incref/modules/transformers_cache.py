"""Caches of transformers models that keep codes."""

from typing import Any

import torch

from incref.config.maxabs import MaxAbsScale
from incref.errors import UnsupportedError
from incref.formats import BlockFormat, get_format
from incref.modules.stored_tokens import StoredTokens
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN
from incref.qtensor.spec import QuantSpec

__all__ = ["quantized_cache"]


def quantized_cache(
    config: object,
    spec: QuantSpec | str = "float8_e4m3fn",
    *,
    scales: tuple[float, float] | None = None,
    method: MaxAbsScale | None = None,
) -> Any:  # noqa: ANN401  # a class of an optional dependency
    """Make a cache for a transformers model that keeps its keys and values as codes.

    What attention reads are the dequantized values, also of the tokens of the very call that adds them. Codes of
    tokens that are there never change.

    Args:
        config: of the model, `model.config`.
        spec: how keys and values [B, heads, L, D] are quantized; by the name of a format: with a scale for every token
            of every head or, in a block format, for its blocks along D.
        scales: static ones, of keys and of values; one for all, and no scales of tokens.
        method: how scales of tokens are found; None for the rule of `spec`.

    Returns:
        A `transformers.Cache`, to be given as `past_key_values` to the model or to `generate`.

    Raises:
        UnsupportedError: if transformers is not there, or a layer of the model keeps something else than all of its
            keys and values.
        ValueError: for a spec by which what comes later would change the codes of what is there.
    """
    try:
        from transformers.cache_utils import Cache, DynamicCache, DynamicLayer  # noqa: PLC0415  # an optional dependency

        from incref.modules.transformers_cache_layer import QuantizedLayer  # noqa: PLC0415  # likewise
    except ImportError as error:
        raise UnsupportedError(f"caches of transformers are needed, which are not there: {error}") from error
    planned = DynamicCache(config=config).layers  # type: ignore[arg-type]  # a configuration of transformers
    for layer in planned:
        if type(layer) is not DynamicLayer:
            raise UnsupportedError(
                f"a quantized cache is for layers that keep all keys and values, got {type(layer).__name__}"
            )
    if isinstance(spec, str):
        fmt = get_format(spec)
        granularity = PER_TENSOR if scales is not None or isinstance(fmt, BlockFormat) else PER_TOKEN
        spec = QuantSpec(fmt=fmt, granularity=granularity)

    def stored(scale: float | None) -> StoredTokens:
        assert isinstance(spec, QuantSpec)
        return StoredTokens(spec, method, None if scale is None else torch.tensor(scale, dtype=torch.float32))

    key_scale, value_scale = scales or (None, None)
    return Cache(layers=[QuantizedLayer(stored(key_scale), stored(value_scale)) for _ in planned])
