"""The blocks that a model is a chain of."""

from torch import nn

__all__ = ["find_blocks"]


def find_blocks(model: nn.Module) -> list[str]:
    """Find the longest part of `model` that is a chain of blocks of one kind, such as the layers of a transformer.

    Returns:
        The names of the blocks, in order: the children of the `nn.ModuleList` or `nn.Sequential` that holds most
        parameters among those with at least two children, all of one class and with children of their own. Empty if
        there is none.
    """
    best: list[str] = []
    most = 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < 2:
            continue
        children = list(module)
        is_chain = len({type(child) for child in children}) == 1 and all(any(child.children()) for child in children)
        size = sum(parameter.numel() for parameter in module.parameters())
        if is_chain and size > most:
            best = [f"{name}.{index}" if name else str(index) for index in range(len(children))]
            most = size
    return best
