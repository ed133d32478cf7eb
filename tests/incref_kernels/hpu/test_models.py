"""Models that are converted for a Gaudi, on the simulator: as its operations say, bit for bit."""

import gc
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from incref import FP8Config, GPTQConfig, RTNConfig, convert, expose_attention, load, prepare, quantize, save
from incref.algorithms.maxabs import search_scale
from incref.backends.backend import Backend, Kernel
from incref.conformance.judge import assert_same_bits
from incref.errors import UnsupportedError
from incref.modules import binding
from incref.modules.conv import QuantConv2d
from incref.modules.kv_cache import QuantKVCache
from incref.modules.layer import QuantLayer
from incref.modules.matmul import QuantMatmul
from incref.nn.attention import Attention
from incref.nn.kv_cache import KVCache
from incref.nn.matmul import Matmul
from incref.numerics.granularity import PER_TENSOR
from incref.ops import OPS, fp8_bmm, fp8_conv2d, fp8_matmul
from incref.ops.fp8_conv2d import PER_FILTER
from incref.qtensor.parts import quantize_parts
from incref_kernels.hpu import BACKEND
from incref_kernels.hpu.runtime import compile_model
from incref_kernels.hpu.simulator.int4 import Int4
from incref_kernels.hpu.simulator.options import Sums
from incref_kernels.hpu.simulator.products import Products
from incref_kernels.hpu.simulator.simulate import simulate

EXAMPLE = Path(__file__).parents[3] / "examples" / "fp8_resnet18.py"


class Called(TorchDispatchMode):
    """Keeps which overloads of Gaudi's operators are called."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        if func.namespace == "hpu":
            self.operators.append(str(func).removeprefix("hpu."))
        return func(*args, **(kwargs or {}))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("target", ["gaudi2", "gaudi3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("method", ["maxabs_hw", "maxabs_arbitrary"])
def test_a_layer_multiplies_codes(method: str, dtype: torch.dtype, target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 24)).to(dtype)
    config = FP8Config(target=target, scale_method=method, dump_stats_path=str(tmp_path / "measured"))
    prepared = prepare(model, config)
    prepared(draw(50, 32, seed=1).to(dtype))
    with simulate(target):
        layer = convert(prepared, device="hpu").get_submodule("0")
        assert isinstance(layer, QuantLayer)
        assert layer.kernel == "hpu fp8_matmul"
        x = draw(7, 32).to(dtype)
        y = layer(x)
    assert layer.activation is not None
    parts, weight = quantize_parts(x, layer.activation, layer.input_scale), layer.qweight
    fmt = layer.activation.fmt
    want = fp8_matmul(
        parts.codes,
        weight.packed,
        parts.scale,
        weight.parts.scale,
        x_fmt=fmt,
        w_fmt=fmt,
        bias=layer.bias,
        dtype=dtype,
    )
    assert_same_bits(y, want)


@pytest.mark.parametrize("mode", ["lazy", "eager", "compile"])
@pytest.mark.parametrize(
    ("method", "overload"),
    [("maxabs_hw", "scalar"), ("act_maxabs_hw_weights_pcs_maxabs_pow2", "scalar_list"), ("maxabs_pcs_pow2", "default")],
)
def test_scales_that_stay_are_numbers(method: str, overload: str, mode: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = FP8Config(target="gaudi3", scale_method=method, dump_stats_path=str(tmp_path / "measured"))
    prepared = prepare(nn.Sequential(nn.Linear(32, 24)).bfloat16(), config)
    x = draw(50, 32, seed=1).bfloat16()
    prepared(x)
    with simulate("gaudi3", mode=mode):
        layer = convert(prepared, device="hpu").get_submodule("0")
        assert isinstance(layer, QuantLayer)
        assert layer.kernel == "hpu fp8_matmul"
        with Called() as called:
            y = layer(x)
    cast = "scalar" if layer.input_scale is not None else "default"
    product = "default" if mode == "eager" else overload
    assert called.operators == [f"cast_to_fp8_v2.{cast}", f"fp8_gemm_v2.{product}"]
    assert layer.activation is not None
    scale = layer.input_scale
    if scale is None:
        assert layer.scale_method is not None
        scale = search_scale(x, layer.activation, layer.scale_method)
    parts, weight, fmt = quantize_parts(x, layer.activation, scale), layer.qweight, layer.activation.fmt
    want = fp8_matmul(
        parts.codes,
        weight.packed,
        parts.scale,
        weight.block_scale,
        x_fmt=fmt,
        w_fmt=fmt,
        x_granularity=layer.activation.granularity,
        w_granularity=weight.spec.granularity,
        bias=layer.bias,
        dtype=torch.bfloat16,
    )
    assert_same_bits(y, want)


class Squared(nn.Module):
    """Multiplies with its transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.product = Matmul()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.product(x, x.mT)
        return found


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Linear(32, 24), lambda: nn.Conv2d(1, 3, 2), Squared, KVCache],
    ids=["linear", "convolution", "product", "cache"],
)
def test_numbers_are_read_again_with_a_state_dict(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    config = FP8Config(target="gaudi2", dump_stats_path=str(tmp_path / "measured"))
    with simulate("gaudi2"):
        models = []
        for size in (1.0, 1000.0):
            prepared = prepare(nn.Sequential(make()), config)
            prepared(draw(1, 1, 50, 32) * size)
            models.append(convert(prepared, device="hpu"))
        one, other = models
        x = draw(1, 1, 7, 32)
        assert not torch.equal(one(x), other(x))
        one.load_state_dict(other.state_dict())
        for cache in (*one.modules(), *other.modules()):
            if isinstance(cache, QuantKVCache):
                cache.reset()
        assert_same_bits(one(x), other(x))


def test_tokens_have_scales_of_their_own() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 24)).to(torch.bfloat16)
    config = FP8Config(target="gaudi3", scale_method="maxabs_pcs_pow2", dynamic_quantization=True)
    with simulate("gaudi3"):
        layer = quantize(model, config, device="hpu").get_submodule("0")
        assert isinstance(layer, QuantLayer)
        assert layer.kernel == "hpu fp8_matmul"
        x = draw(7, 32).to(torch.bfloat16) * torch.logspace(-3, 3, 7, dtype=torch.bfloat16)[:, None]
        assert_same_bits(layer(x), torch.cat([layer(row[None]) for row in x]))


def test_4_bit_weights_are_packed_once() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 40, bias=False))
    config = RTNConfig(use_sym=False, group_size=32)
    reference = quantize(model, config, inplace=False)
    with simulate("gaudi2"):
        layer = quantize(model, config, inplace=False, device="hpu").get_submodule("0")
        assert isinstance(layer, QuantLayer)
        assert layer.kernel == "hpu weight_only_matmul"
        assert_same_bits(layer(torch.eye(64)), reference(torch.eye(64)))


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("method", ["maxabs_hw", "maxabs_arbitrary"])
@pytest.mark.parametrize("target", ["gaudi2", "gaudi3"])
def test_a_convolution_is_one_of_codes(target: str, method: str, padding_mode: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(1, 1), groups=2, padding_mode=padding_mode)  # type: ignore[arg-type]
    config = FP8Config(target=target, scale_method=method, dump_stats_path=str(tmp_path / "measured"))
    prepared = prepare(nn.Sequential(conv).bfloat16(), config)
    x = draw(2, 4, 9, 7).bfloat16()
    prepared(x)
    values = convert(prepared, inplace=False)(x)
    with simulate(target):
        layer = convert(prepared, device="hpu").get_submodule("0")
        assert isinstance(layer, QuantConv2d)
        assert layer.kernel == "hpu fp8_conv2d"
        y, one = layer(x), layer(x[0])
    assert layer.activation is not None
    assert_same_bits(one, y[0])
    is_zeros = padding_mode == "zeros"
    bordered = x if is_zeros else nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    parts, weight, fmt = (
        quantize_parts(bordered, layer.activation, layer.input_scale),
        layer.qweight,
        layer.activation.fmt,
    )
    want = fp8_conv2d(
        parts.codes,
        weight.packed.view(8, 2, 3, 2),
        parts.scale,
        weight.scale,
        x_fmt=fmt,
        w_fmt=fmt,
        w_granularity=PER_FILTER if weight.scale.ndim else PER_TENSOR,
        stride=(2, 1),
        padding=(1, 1) if is_zeros else (0, 0),
        groups=2,
        bias=layer.bias,
        dtype=torch.bfloat16,
    )
    assert_same_bits(y, want)
    # The same values, convolved by PyTorch: sums of 12 products of bfloat16, each rounded once or twice.
    assert (y.float() - values.float()).abs().max() <= 2.0**-7 * values.float().abs().max()


@pytest.mark.parametrize("mode", ["lazy", "eager", "compile"])
def test_a_convolution_knows_its_scales(mode: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = FP8Config(target="gaudi3", dump_stats_path=str(tmp_path / "measured"))
    prepared = prepare(nn.Sequential(nn.Conv2d(4, 8, 3)).bfloat16(), config)
    x = draw(2, 4, 9, 7).bfloat16()
    prepared(x)
    with simulate("gaudi3", mode=mode):
        layer = convert(prepared, device="hpu")
        with Called() as called:
            layer(x)
    assert called.operators == [
        "cast_to_fp8_v2.scalar",
        "conv2d_fp8.default" if mode == "eager" else "conv2d_fp8.scalar",
    ]


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("method", ["maxabs_hw", "maxabs_arbitrary"])
@pytest.mark.parametrize("target", ["gaudi2", "gaudi3"])
def test_attention_multiplies_codes(
    target: str, method: str, dtype: torch.dtype, tmp_path: Path, *, dynamic: bool
) -> None:
    config = FP8Config(
        target=target, scale_method=method, dynamic_quantization=dynamic, dump_stats_path=str(tmp_path / "measured")
    )
    prepared = prepare(nn.Sequential(Squared(), Attention()), config)
    query, key, value = (draw(2, 4, 5, 16, seed=seed).to(dtype) for seed in range(3))
    x = draw(2, 3, 7, 16, seed=4).to(dtype)
    prepared[0](x)
    prepared[1](query, key, value)
    with simulate(target):
        model = convert(prepared, device="hpu")
        product = model.get_submodule("0.product")
        assert isinstance(product, QuantMatmul)
        assert product.kernel == "hpu fp8_bmm"
        with Called() as called:
            found = model[0](x)
        number = "default" if dynamic else "scalar"
        assert called.operators == [f"cast_to_fp8_v2.{number}", f"cast_to_fp8_v2.{number}", f"fp8_gemm_v2.{number}"]
        with Called() as called:
            model[1](query, key, value)
        assert called.operators.count(f"fp8_gemm_v2.{number}") == 2
        assert not any(name.startswith("cast_from_fp8") for name in called.operators)
    spec, scales = product.scheme.activation, [product._scale(name) for name in ("x", "y")]
    if dynamic:
        assert product.scheme.input_scale is not None
        scales = [search_scale(one, spec, product.scheme.input_scale) for one in (x, x.mT)]
    left, right = (quantize_parts(one, spec, scale) for one, scale in zip((x, x.mT), scales, strict=True))
    want = fp8_bmm(left.codes, right.codes, left.scale, right.scale, x_fmt=spec.fmt, y_fmt=spec.fmt, dtype=dtype)
    assert_same_bits(found, want)


def test_attention_is_one_graph(tmp_path: Path) -> None:
    config = FP8Config(target="gaudi2", dump_stats_path=str(tmp_path / "measured"))
    prepared = prepare(nn.Sequential(Attention()), config)
    query, key, value = (draw(2, 4, 5, 16, seed=seed).bfloat16() for seed in range(3))
    prepared[0](query, key, value)
    with simulate("gaudi2", mode="eager"):
        attention = convert(prepared, device="hpu")[0]
        whole = torch.compile(attention, backend="aot_eager", fullgraph=True)
        assert_same_bits(whole(query, key, value)[0], attention(query, key, value)[0])


def test_tokens_of_a_product_are_dequantized() -> None:
    config = FP8Config(target="gaudi3", scale_method="maxabs_pcs_pow2")
    reference = quantize(nn.Sequential(Squared()), config, inplace=False)
    x = draw(2, 3, 7, 16)
    with simulate("gaudi3"):
        model = quantize(nn.Sequential(Squared()), config, device="hpu")
        product = model.get_submodule("0.product")
        assert isinstance(product, QuantMatmul)
        assert product.kernel == "reference"
        assert_same_bits(model(x), reference(x))


def test_a_product_with_gradients_is_refused_or_falls_back(tmp_path: Path) -> None:
    config = FP8Config(target="gaudi2", dump_stats_path=str(tmp_path / "measured"))
    prepared = prepare(nn.Sequential(Squared()), config)
    x = draw(2, 3, 7, 16)
    prepared(x)
    with simulate("gaudi2"):
        refuses = convert(prepared, inplace=False, device="hpu")
        with pytest.raises(UnsupportedError, match="hpu fp8_bmm computes no gradients, and a factor needs one"):
            refuses(x.requires_grad_())
        falls_back = convert(prepared, inplace=False, device="hpu", fallback="reference")
        falls_back(x).sum().backward()
        assert x.grad is not None


@pytest.mark.parametrize("act_order", [True, False])
def test_4_bit_weights_need_a_graph(monkeypatch: pytest.MonkeyPatch, *, act_order: bool) -> None:
    calls: list[str] = []
    convert_codes = Int4._convert

    def count(*args: object) -> torch.Tensor:
        calls.append("convert")
        return convert_codes(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Int4, "_convert", count)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 40, bias=False))
    x = draw(3, 64)
    config = GPTQConfig(act_order=True, group_size=32) if act_order else RTNConfig()

    def make(**options: str) -> nn.Module:
        found: nn.Module = quantize(model, config, lambda prepared: prepared(x), inplace=False, **options)
        return found

    reference = make()(x)
    with simulate("gaudi2", mode="lazy"):
        want = make(device="hpu")(x)
    with simulate("gaudi2", mode="eager"):
        quantized = make(device="hpu")
        with pytest.raises(
            UnsupportedError,
            match=r"not eagerly; compile the model \(incref_kernels.hpu.runtime.compile_model\); bind with",
        ):
            quantized(x)
        assert_same_bits(compile_model(quantized)(x), want)
        falls_back = make(device="hpu", fallback="reference")
        calls.clear()
        assert_same_bits(falls_back(x), reference)
        assert calls == []
        layer = falls_back.get_submodule("0")
        assert isinstance(layer, QuantLayer)
        # It has its kernel, and uses it once it can.
        assert layer.kernel == "hpu weight_only_matmul"
        assert_same_bits(compile_model(falls_back)(x), want)
        assert calls == ["convert"]


@pytest.mark.parametrize("dynamic", [True, False])
def test_keys_and_values_are_kept_as_codes(tmp_path: Path, *, dynamic: bool) -> None:
    model = nn.Sequential(KVCache())
    method = "maxabs_pcs_pow2" if dynamic else "maxabs_hw"
    config = FP8Config(
        target="gaudi2", scale_method=method, dynamic_quantization=dynamic, dump_stats_path=str(tmp_path / "measured")
    )
    prepared = prepare(model, config)
    x = draw(2, 3, 5, 16).to(torch.bfloat16) * 30
    prepared(x)
    reference = convert(prepared, inplace=False)
    with simulate("gaudi2") as simulation:
        found = convert(prepared, device="hpu")
        cache = found.get_submodule("0")
        assert isinstance(cache, QuantKVCache)
        for part in x.split(2, dim=-2):
            assert_same_bits(found(part), reference(part))
        # Each call reads what is kept, after a cut.
        assert simulation.steps == 3


@pytest.mark.parametrize("target", ["gaudi2", "gaudi3"])
def test_the_example_runs(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    convolve = Products.conv2d_fp8

    def count(*args: object) -> torch.Tensor:
        calls.append("conv2d_fp8")
        return convolve(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Products, "conv2d_fp8", count)
    example = runpy.run_path(str(EXAMPLE))
    options = ["--size", "64", "--batches", "1", "--target", target]
    with simulate(target, sums=Sums.FLOAT32):
        example["main"]([*options, "--device", "hpu", "--dump-stats-path", str(tmp_path / "one")])
    on_hpu = capsys.readouterr().out.splitlines()[-1]
    example["main"]([*options, "--dump-stats-path", str(tmp_path / "other")])
    on_cpu = capsys.readouterr().out.splitlines()[-1]
    # The first call alone is of 20 convolutions.
    assert len(calls) >= 20
    # Sums are not added in one order, so only what is shown of the scores is the same.
    assert on_hpu == on_cpu


def contracts(*ops: str) -> Backend:
    """A backend that computes by the references of the operations."""
    kernels = {name: Kernel(fn=OPS[name].reference, why_not=lambda *_, **__: None) for name in ops}
    return Backend(name="contracts", why_unavailable=lambda: None, kernels=kernels)


@pytest.mark.parametrize("method", ["maxabs_hw", "maxabs_pcs_pow2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("target", ["gaudi2", "gaudi3"])
def test_a_language_model_computes_what_the_contracts_say(
    tiny_llama: Path, target: str, dtype: torch.dtype, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    float_model = transformers.LlamaForCausalLM.from_pretrained(tiny_llama).eval().to(dtype)
    config = FP8Config(target=target, scale_method=method, dump_stats_path=str(tmp_path / "measured"))
    prepared = prepare(expose_attention(float_model), config)
    tokens = torch.arange(12)[None]
    prepared(tokens)
    installed = {"hpu": BACKEND, "contracts": contracts("fp8_matmul", "fp8_bmm")}
    monkeypatch.setattr(binding, "find_backend", installed.__getitem__)
    with torch.no_grad():
        reference = convert(prepared, inplace=False, backend="contracts")
        want = reference(tokens).logits
        with simulate(target):
            model = convert(prepared, device="hpu")
            kernels = {layer.kernel for layer in model.modules() if isinstance(layer, QuantLayer)}
            products = {layer.kernel for layer in model.modules() if isinstance(layer, QuantMatmul)}
            found = model(tokens).logits
    assert kernels == {"hpu fp8_matmul"}
    assert products == {"reference" if method == "maxabs_pcs_pow2" else "hpu fp8_bmm"}
    assert_same_bits(found, want)


def test_a_model_on_the_device_has_the_environment_of_inference(tmp_path: Path) -> None:
    torch.manual_seed(0)
    float_model = nn.Sequential(nn.Linear(64, 40, bias=False))
    with simulate("gaudi2") as simulation:
        quantized = quantize(float_model, RTNConfig(), inplace=False)
        assert simulation.models == 0
        save(quantized, tmp_path)
        converted = convert(float_model, RTNConfig(), inplace=False, device="hpu")
        assert simulation.models == 1
        loaded = load(tmp_path, float_model, device="hpu")
        assert simulation.models == 2
        del converted, loaded
        gc.collect()
        assert simulation.models == 0


@pytest.mark.parametrize("variable", ["INCREF_TARGET_DEVICE", "INC_TARGET_DEVICE"])
def test_the_environment_names_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    model = nn.Sequential(nn.Linear(64, 40, bias=False))
    save(quantize(model, RTNConfig(), inplace=False), tmp_path)
    monkeypatch.setenv(variable, "HPU")
    with simulate("gaudi2"):
        for device, kernel in ((None, "hpu weight_only_matmul"), ("cpu", "reference")):
            loaded = load(tmp_path, model, device=device).get_submodule("0")
            assert isinstance(loaded, QuantLayer)
            assert loaded.kernel == kernel
        layer = quantize(model, RTNConfig(), inplace=False).get_submodule("0")
        assert isinstance(layer, QuantLayer)
        assert layer.kernel == "hpu weight_only_matmul"
        told = quantize(model, RTNConfig(), inplace=False, device="cpu").get_submodule("0")
        assert isinstance(told, QuantLayer)
        assert told.kernel == "reference"
    for call in (lambda: quantize(model, RTNConfig(), inplace=False), lambda: load(tmp_path, model)):
        with pytest.raises(UnsupportedError, match="backend 'hpu' can't run here"):
            call()
    monkeypatch.setenv("INC_TARGET_DEVICE", "hpu")
    monkeypatch.setenv("INCREF_TARGET_DEVICE", "tpu")
    with pytest.raises(ValueError, match="INCREF_TARGET_DEVICE must be hpu, xpu, cuda, cpu, or unset, got 'tpu'"):
        quantize(model, RTNConfig(), inplace=False)
