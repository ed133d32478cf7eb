"""Text that a model goes on with, the same one every time."""

from collections.abc import Callable, Collection

import torch
from torch import nn

__all__ = ["generate_greedily"]


def generate_greedily(
    model: nn.Module,
    prompt: list[int],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    on_token: Callable[[int], None] | None = None,
) -> list[int]:
    """Continue `prompt` by the most likely token, again and again.

    Args:
        model: a causal language model, called as the Hugging Face ones are, with `past_key_values`.
        prompt: token ids to start from.
        max_new_tokens: how many tokens to add at most.
        stop_ids: tokens that end the text; the one that does is not returned.
        on_token: called with each new token.

    Returns:
        The new token ids. Of equal logits the lowest id wins, so one machine gives one text.

    Raises:
        ValueError: if the prompt is empty.
    """
    if not prompt:
        raise ValueError("a prompt must have at least one token, got none")
    added: list[int] = []
    ids, past = torch.tensor([prompt]), None
    with torch.inference_mode():
        while len(added) < max_new_tokens:
            output = model(input_ids=ids, past_key_values=past, use_cache=True)
            token = int(output.logits[0, -1].argmax())
            if token in stop_ids:
                break
            added.append(token)
            if on_token is not None:
                on_token(token)
            ids, past = torch.tensor([[token]]), output.past_key_values
    return added
