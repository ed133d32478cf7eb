"""Where the inputs of layers come from: which layers are fed the same tensor, and which norm alone made it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

__all__ = ["Sources", "find_sources", "is_scalable"]

# What looks at a tensor without reading its values.
_HARMLESS = ("__get__", "size", "dim", "stride", "numel", "is_floating_point", "is_contiguous", "__len__")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What one call of a model showed.

    Attributes:
        together: names of the layers that were called, grouped by the tensor that they got, in the order of the calls.
        norms: the name of the norm that feeds such a group and nothing else, by the first name of the group.
    """

    together: list[list[str]]
    norms: dict[str, str]


@dataclass(kw_only=True)
class _Made:
    """What a norm made.

    Attributes:
        name: of the norm.
        norm: the norm.
        x: what it got.
        output: what it made.
        is_used_elsewhere: whether anything but the layers read it, or the norm was called again.
    """

    name: str
    norm: nn.Module
    x: Tensor
    output: Tensor
    is_used_elsewhere: bool = False


@dataclass(kw_only=True)
class _Watch(TorchFunctionMode):
    """Sees who reads what norms made, and what layers get."""

    made: list[_Made] = field(default_factory=list)
    fed: list[tuple[Tensor, int, list[str]]] = field(default_factory=list)
    inside: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: Sequence[object] = (), kwargs: object = None
    ) -> object:
        """Run `func`, and note whether it reads what a norm made."""
        del types
        result = func(*args, **(kwargs or {}))  # type: ignore[arg-type]  # a dict
        name = getattr(func, "__name__", "")
        is_harmless = name in _HARMLESS and not isinstance(result, Tensor)
        if not self.inside and not is_harmless:
            self.mark((args, kwargs))
        return result

    def mark(self, values: object) -> None:
        """Note that something reads `values`."""
        read = {id(leaf) for leaf in tree_leaves(values)}
        for made in self.made:
            made.is_used_elsewhere |= id(made.output) in read

    def feed(self, name: str, x: Tensor) -> None:
        """Note that the layer called `name` gets `x`."""
        version = 0 if x.is_inference() else x._version  # noqa: SLF001  # no public way
        for tensor, known, names in self.fed:
            if tensor is x and known == version:
                names.append(name)
                return
        self.fed.append((x, version, [name]))

    def made_by(self, name: str, norm: nn.Module, x: object, output: object) -> None:
        """Note what a norm made; a norm that is called again can't be scaled for one of its outputs alone."""
        if not isinstance(x, Tensor) or not isinstance(output, Tensor):
            return
        again = [made for made in self.made if made.norm is norm]
        for made in again:
            made.is_used_elsewhere = True
        self.made.append(_Made(name=name, norm=norm, x=x, output=output, is_used_elsewhere=bool(again)))


@torch.no_grad()
def find_sources(model: nn.Module, layers: Mapping[str, nn.Module], run: Callable[[], object]) -> Sources:
    """Watch one call of `model`.

    A norm feeds a group of layers alone if nothing else reads what it made: no operation, no other module, and not the
    caller; if it was called once; and if it is scaled by its weight, which no other module has; see `is_scalable`.

    Args:
        model: the model.
        layers: some of its layers, by name.
        run: calls the model, and gives what it returns.
    """
    watch = _Watch()
    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, layer in layers.items():
        handles.append(layer.register_forward_pre_hook(_entering(watch, name)))
        handles.append(layer.register_forward_hook(_leaving(watch)))
    for name, norm in _candidates(model, layers.values()):
        handles.append(norm.register_forward_hook(_making(watch, name)))
    try:
        with watch:
            returned = run()
        watch.mark(returned)
    finally:
        for handle in handles:
            handle.remove()
    norms: dict[str, str] = {}
    for x, _, names in watch.fed:
        made = next((made for made in watch.made if made.output is x), None)
        if made is not None and not made.is_used_elsewhere and is_scalable(made.norm, made.x, made.output):
            norms[names[0]] = made.name
    return Sources(together=[names for _, _, names in watch.fed], norms=norms)


def is_scalable(norm: nn.Module, x: Tensor, output: Tensor) -> bool:
    """Whether what `norm` makes of `x` is proportional to its weight and bias.

    They are doubled for one call; as that is exact, its output has to be twice `output`, bit for bit.
    """
    parameters = list(norm.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.mul_(2)
        doubled = norm(x)
    finally:
        for parameter, old in zip(parameters, before, strict=True):
            parameter.copy_(old)
    return torch.equal(doubled, output * 2)


def _candidates(model: nn.Module, layers: Iterable[nn.Module]) -> list[tuple[str, nn.Module]]:
    """The modules without children whose parameters are a weight, and perhaps a bias, of one dimension, all theirs."""
    taken = set(layers)
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    found: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        parameters = dict(module.named_parameters())
        is_norm = "weight" in parameters and set(parameters) <= {"weight", "bias"}
        is_own = all(parameter.ndim == 1 and owners[id(parameter)] == 1 for parameter in parameters.values())
        if is_norm and is_own and module not in taken and not any(module.children()):
            found.append((name, module))
    return found


def _entering(watch: _Watch, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  # the type that torch declares
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        del module
        watch.inside += 1
        watch.feed(name, args[0])

    return hook


def _leaving(watch: _Watch):  # type: ignore[no-untyped-def]  # noqa: ANN202  # likewise
    def hook(module: nn.Module, args: object, output: object) -> None:
        del module, args, output
        watch.inside -= 1

    return hook


def _making(watch: _Watch, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  # likewise
    def hook(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        watch.made_by(name, module, args[0] if args else None, output)

    return hook
