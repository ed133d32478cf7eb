"""Attention of transformers models as modules that a configuration can speak of."""

import inspect

from torch import Tensor, nn

from incref.errors import UnsupportedError
from incref.nn.attention import Attention

__all__ = ["ATTENTION", "expose_attention"]

ATTENTION = "incref_attention"
"""What the module is called in the attention layer that it computes for, and how transformers finds its function."""


def expose_attention(model: nn.Module) -> nn.Module:
    """Make the attention of a transformers model compute by `Attention` modules, one in each attention layer.

    Afterwards a layer such as `model.layers.0.self_attn` has the products `...self_attn.incref_attention.qk` and
    `...pv`, which a configuration quantizes as it does every `Matmul`. The float model computes what its eager
    attention does.

    Args:
        model: a model whose attention layers ask transformers' attention interface for a function; it is changed.

    Returns:
        The model.

    Raises:
        UnsupportedError: if it has no such layer or does not let its attention be set, or transformers is not there or
            has no such interface.
    """
    layers = [module for module in model.modules() if _asks_the_interface(module)]
    implement = getattr(model, "set_attn_implementation", None)
    if not layers or implement is None:
        raise UnsupportedError(
            f"{type(model).__name__} has no attention that asks transformers' attention interface for a function; "
            "use incref.nn.attention.Attention in the model"
        )
    _register()
    for layer in layers:
        if not isinstance(getattr(layer, ATTENTION, None), nn.Module):
            layer.add_module(ATTENTION, Attention().train(layer.training))
    implement(ATTENTION)
    for layer in layers:
        asked = getattr(getattr(layer, "config", None), "_attn_implementation", None)
        if asked != ATTENTION:
            raise UnsupportedError(
                f"{type(model).__name__} does not let its attention be set: {type(layer).__name__} asks for {asked!r}"
            )
    return model


def _asks_the_interface(module: nn.Module) -> bool:
    forward = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    return code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names


def _register() -> None:
    """Tell transformers of the function, and which masks it takes: those of eager attention."""
    try:
        from transformers import AttentionInterface, AttentionMaskInterface  # noqa: PLC0415  # an optional dependency
        from transformers.masking_utils import eager_mask  # noqa: PLC0415
    except ImportError as error:
        raise UnsupportedError(
            f"the attention interface of transformers is needed, which the installed version has not: {error}"
        ) from error
    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, eager_mask)


def _attend(  # noqa: PLR0917  # the arguments that transformers gives
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    is_causal: bool | None = None,
    softcap: float | None = None,
    position_bias: Tensor | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, Tensor]:
    attention = getattr(module, ATTENTION, None)
    if not isinstance(attention, nn.Module):
        raise UnsupportedError(f"{type(module).__name__} has no {ATTENTION}; call expose_attention on the whole model")
    if position_bias is not None or s_aux is not None:
        raise UnsupportedError(f"{type(module).__name__}: attention with a position bias or sinks is not there")
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    result, probabilities = attention(
        query,
        key,
        value,
        attention_mask,
        scale=scaling,
        is_causal=causal and attention_mask is None and query.shape[-2] > 1,
        softcap=softcap,
        dropout=dropout,
    )
    return result.transpose(1, 2).contiguous(), probabilities
