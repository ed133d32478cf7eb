import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from incref.backends.backend import Backend, Kernel, Prepared
from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.config.scheme import Elementwise
from incref.config.schemes import SCHEMES
from incref.errors import UnsupportedError
from incref.formats import FORMATS, FloatFormat
from incref.modules import binding as binding_module
from incref.modules.binding import AUTO, Binding
from incref.modules.linear import QuantLinear
from incref.ops import OPS
from incref.ops.weight import Weight
from incref.qtensor.qtensor import QTensor

GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(8, 70, generator=GENERATOR)
B = torch.randn(8, generator=GENERATOR)
X = torch.randn(3, 5, 70, generator=GENERATOR)
PRODUCTS = ("int8_matmul", "weight_only_matmul", "fp8_matmul", "mx_matmul")


def references(*names: str, why_not: str | None = None) -> Backend:
    """A backend whose kernels are the references of some operations."""
    kernels = {name: Kernel(fn=OPS[name].reference, why_not=lambda *_, **__: why_not) for name in names}
    return Backend(name="mine", why_unavailable=lambda: None, kernels=kernels, devices=("cpu",))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Backend], None]:
    """Make a backend the only one that is installed."""

    def install(backend: Backend) -> None:
        monkeypatch.setattr(binding_module, "find_backend", lambda _: backend)
        monkeypatch.setattr(binding_module, "backends_for", lambda _: [backend])

    return install


def make(name: str, weight: Tensor = W, **options: object) -> QuantLinear:
    scheme = SCHEMES[name]
    return QuantLinear(QTensor.quantize(weight, scheme.weight), B.clone(), scheme.activation, **options)


@pytest.mark.parametrize(
    ("scheme", "op"),
    [
        ("int8_dynamic", "int8_matmul"),
        ("int4_g32", "weight_only_matmul"),
        ("int4_asym_g128", "weight_only_matmul"),
        ("mxfp6_e2m3", "weight_only_matmul"),
        ("fp8_e4m3_w8a8", "fp8_matmul"),
        ("mxfp4_w4a4", "mx_matmul"),
        ("nvfp4_w4a4", "mx_matmul"),
    ],
)
def test_a_named_backend_computes_the_operation_of_the_layer(
    use: Callable[[Backend], None], scheme: str, op: str
) -> None:
    use(references(*PRODUCTS))
    layer, want = make(scheme), make(scheme)(X)
    layer.bind(Binding(backend="mine"))
    assert layer.kernel == f"mine {op}"
    # Exact sums are as near to the reference path as float32 sums of 70 products are to them.
    assert (layer(X) - want).abs().max() < 70 * 2.0**-23 * (X.abs() @ W.abs().T).max()


@pytest.mark.parametrize(
    ("scheme", "op"), [("fp8_e4m3_w8a8", "weight_only_matmul"), ("nvfp4_w4a4", "weight_only_matmul")]
)
def test_a_chosen_backend_multiplies_what_the_reference_path_does(
    use: Callable[[Backend], None], scheme: str, op: str
) -> None:
    use(references(*PRODUCTS))
    layer = make(scheme)
    layer.bind(Binding(backend=AUTO))
    assert layer.kernel == f"mine {op}"


def test_scales_that_are_powers_of_two_make_both_the_same(use: Callable[[Backend], None]) -> None:
    use(references(*PRODUCTS))
    scheme = SCHEMES["fp8_e4m3_w8a8"]
    scale = torch.full((8, 1), 2.0**-6)
    layer = QuantLinear(
        QTensor.quantize(W, scheme.weight, scale),
        None,
        scheme.activation,
        scale_method=MaxAbsScale(value=ScaleValue.POWER_OF_TWO),
    )
    layer.bind(Binding(backend=AUTO))
    assert layer.kernel == "mine fp8_matmul"


@pytest.mark.parametrize("backend", ["mine", AUTO])
@pytest.mark.parametrize("scheme", ["int8_static", "int8_dynamic"])
def test_integers_have_the_bits_of_the_reference_path(
    use: Callable[[Backend], None], backend: str, scheme: str
) -> None:
    use(references(*PRODUCTS))
    static: dict[str, object] = {}
    if scheme == "int8_static":
        activation = SCHEMES[scheme].activation
        assert activation is not None
        zero_point = None if activation.symmetric else torch.tensor(3, dtype=torch.int32)
        static = {"input_scale": torch.tensor(0.05), "input_zero_point": zero_point}
    layer, same = make(scheme, **static), make(scheme, **static)
    layer.bind(Binding(backend=backend))
    assert layer.kernel == "mine int8_matmul"
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert torch.equal(layer(X.to(dtype)), same(X.to(dtype)))


def test_columns_in_another_order_meet_those_of_the_input(use: Callable[[Backend], None]) -> None:
    use(references(*PRODUCTS))
    order = torch.randperm(70, generator=GENERATOR)
    plain = QTensor.quantize(W[:, order], SCHEMES["int4_g32"].weight)
    layer = QuantLinear(replace(plain, order=order.to(torch.int32)))
    layer.bind(Binding(backend="mine"))
    want = OPS["weight_only_matmul"](
        X[..., order], plain.codes, plain.parts.scale, "int4", granularity=plain.spec.granularity
    )
    assert torch.equal(layer(X), want)


def test_elementwise_roundings_stay_around_the_product(use: Callable[[Backend], None]) -> None:
    use(references(*PRODUCTS))
    bf16 = FORMATS["bfloat16"]
    assert isinstance(bf16, FloatFormat)
    layer = make("mxfp4_w4a4", elementwise=Elementwise(fmt=bf16))
    layer.bind(Binding(backend="mine"))
    y = layer(X)
    assert torch.equal(y, y.to(torch.bfloat16).to(torch.float32))


def test_a_backend_that_lacks_the_kernel_is_an_error_that_says_so(use: Callable[[Backend], None]) -> None:
    use(references("int8_matmul"))
    with pytest.raises(UnsupportedError, match="backend 'mine' has no kernel: weight_only_matmul: it has no kernel"):
        make("int4_g32").bind(Binding(backend="mine"))


def test_the_reference_steps_in_where_it_was_asked_to(use: Callable[[Backend], None]) -> None:
    use(references("int8_matmul"))
    for binding in (Binding(backend="mine", fallback="reference"), Binding(backend=AUTO)):
        layer = make("int4_g32")
        layer.bind(binding)
        assert layer.kernel == "reference"
        assert torch.equal(layer(X), make("int4_g32")(X))


def test_a_kernel_that_declines_a_call_is_an_error_or_gives_way(use: Callable[[Backend], None]) -> None:
    kernel = Kernel(
        fn=OPS["weight_only_matmul"].reference,
        why_not=lambda x, *_, **__: "it wants float32" if x.dtype is not torch.float32 else None,
    )
    use(Backend(name="mine", why_unavailable=lambda: None, kernels={"weight_only_matmul": kernel}))
    layer = make("int4_g32")
    layer.bind(Binding(backend="mine"))
    with pytest.raises(UnsupportedError, match="declines this input: it wants float32"):
        layer(X.to(torch.bfloat16))
    layer.bind(Binding(backend=AUTO))
    assert torch.equal(layer(X.to(torch.bfloat16)), make("int4_g32")(X.to(torch.bfloat16)))


def test_gradients_are_those_of_the_reference_path(use: Callable[[Backend], None]) -> None:
    use(references(*PRODUCTS))
    layer = make("int4_g32")
    layer.bind(Binding(backend=AUTO))
    x = X.clone().requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    layer.bind(Binding(backend="mine"))
    with pytest.raises(UnsupportedError, match="computes no gradients"):
        layer(x)


def test_a_kernel_with_a_layout_of_its_own_is_given_the_weight_once(use: Callable[[Backend], None]) -> None:
    seen: list[Weight] = []

    def why_not(dense: Tensor | None, x: Tensor, **_: object) -> str | None:
        del dense, x
        return None

    def run(dense: Tensor, x: Tensor, *, bias: Tensor | None = None) -> Tensor:
        return torch.nn.functional.linear(x, dense, bias)

    def prepare(weight: Weight) -> Prepared:
        seen.append(weight)
        return Prepared(run=run, tensors=(make("int4_g32").qweight.dequantize(),), why_not=why_not)

    kernel = Kernel(fn=OPS["weight_only_matmul"].reference, why_not=lambda *_, **__: None, prepare=prepare)
    use(Backend(name="mine", why_unavailable=lambda: None, kernels={"weight_only_matmul": kernel}))
    layer = make("int4_g32")
    layer.bind(Binding(backend="mine"))
    assert torch.equal(layer(X), make("int4_g32")(X))
    assert torch.equal(layer(X), make("int4_g32")(X))
    (weight,) = seen
    assert weight.words.shape == (8, 35)
    assert torch.equal(weight.codes(), layer.qweight.codes)


def test_state_and_copies_know_nothing_of_kernels(use: Callable[[Backend], None]) -> None:
    use(references(*PRODUCTS))
    layer = make("int4_g32")
    names = set(layer.state_dict())
    layer.bind(Binding(backend="mine"))
    assert set(layer.state_dict()) == names
    assert torch.equal(copy.deepcopy(layer)(X), layer(X))
    assert layer.to(torch.bfloat16).kernel == "mine weight_only_matmul"
    assert repr(layer).endswith("kernel=mine weight_only_matmul)")


@pytest.mark.parametrize("scheme", ["int8_dynamic", "int4_g32", "fp8_e4m3_w8a8", "mxfp4_w4a4"])
def test_bound_layers_compile_into_one_graph(use: Callable[[Backend], None], scheme: str) -> None:
    torch.compiler.reset()
    kernels = {
        name: Kernel(fn=fast, why_not=lambda *_, **__: None)
        for name, fast in {
            "weight_only_matmul": _times_zero,
            "fp8_matmul": _times_zero,
            "mx_matmul": _times_zero,
        }.items()
    }
    use(Backend(name="mine", why_unavailable=lambda: None, kernels=kernels))
    layer = make(scheme)
    layer.bind(Binding(backend="mine", fallback="reference"))
    with torch.no_grad():
        compiled = torch.compile(layer, fullgraph=True, backend="eager")
        assert torch.equal(compiled(X), layer(X))


def _times_zero(x: Tensor, w: Tensor, *_: object, **__: object) -> Tensor:
    return x.to(torch.float32) @ w.to(torch.float32).T * 0


def test_a_layer_on_the_meta_device_is_bound_when_it_gets_values(use: Callable[[Backend], None]) -> None:
    use(references(*PRODUCTS))
    layer = make("int4_g32").to("meta")
    layer.bind(Binding(backend="mine"))
    assert layer.kernel == "reference"
