"""What the demonstration and other measurements found, from the files in benchmarks/results."""

import json
from pathlib import Path
from typing import Any

from markdown_cells import code, table

__all__ = [
    "calibrated_results",
    "demo_results",
    "gptq_peer_results",
    "gptq_results",
    "hpu_checkpoints",
    "hpu_results",
    "minilm_results",
    "native_language",
    "others_checkpoints",
    "public_kernels",
    "public_reports",
    "triton_matmul_speed",
    "triton_speed",
]

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
_LOADS = ("references", "first", "second")


def demo_results() -> str:
    """Size and perplexity of a language model under every scheme."""
    rows = json.loads((_RESULTS / "smollm2.json").read_text())["rows"]
    header = ["scheme", "bits per weight", "file, MB", "perplexity", "loss against float32, nats a token"]
    return table(header, map(_demo_row, rows))


def gptq_results() -> str:
    """What calibration gains on the same model."""
    rows = json.loads((_RESULTS / "calibrated.json").read_text())["rows"]
    header = ["scheme", "bits per weight", "file, MB", "perplexity", "loss against float32, nats a token"]
    return table(header, [_demo_row(row) for row in rows if "int4_g128" in row["scheme"]])


def hpu_results() -> str:
    """Perplexity of a language model in the FP8 of Gaudi, beside that of OCP."""
    rows = json.loads((_RESULTS / "hpu.json").read_text())["rows"]
    header = ["arithmetic", "computed by", "products of attention", "perplexity"]
    return table(
        header,
        [
            [
                "no quantization" if row["target"] is None else f"FP8 of `{row['target']}`",
                "the simulated operators" if row["device"] == "hpu" else "the references",
                "FP8" if row["attention"] else "float32",
                f"{row['perplexity']:.3f}",
            ]
            for row in rows
        ],
    )


def hpu_checkpoints() -> str:
    """Seconds and memory of loading a language model from every layout, and the digest of its logits."""
    layouts = json.loads((_RESULTS / "hpu_checkpoints.json").read_text())["layouts"]
    rows: list[list[str]] = []
    for layout, found in layouts.items():
        loads, seconds = found["loads"], found["seconds"]
        digests = {loads[name]["logits"] for name in ("references", "second, references")}
        assert len(digests) == 1, f"{layout}: other logits by the references from repacked weights"
        row = [code(layout), f"{found['stored_mib']:.0f}", f"{found['repacked_mib']:.0f}"]
        row += [f"{seconds[name]:.2f}" for name in _LOADS]
        row += [f"{loads[name]['peak_mib']:.0f}" for name in _LOADS]
        rows.append([*row, code(digests.pop()[:16])])
    header = ["layout", "stored, MiB", "repacked, MiB"]
    header += [f"{what}{name}" for what in ("seconds, ", "memory, MiB, ") for name in ("as stored", "first", "second")]
    return table([*header, "logits by the references, SHA-256"], rows)


def others_checkpoints() -> str:
    """Weights of checkpoints that other libraries wrote, and how many layers differ from what they compute."""
    others = json.loads((_RESULTS / "hpu_checkpoints.json").read_text())["others"]
    rows = [
        [
            f"{library} {found['version']}",
            code(name),
            str(case["layers"]),
            f"{case['weights']:,}",
            str(len(case["unlike"])),
            str(len(case["unlike_repacked"])),
        ]
        for library, found in others.items()
        for name, case in found["cases"].items()
    ]
    header = ["written by", "what", "layers", "weights", "layers that differ", "repacked for Gaudi"]
    return table(header, rows)


def calibrated_results() -> str:
    """The same model under schemes that are calibrated, others that the demonstration leaves out, and on Gaudi."""
    rows = json.loads((_RESULTS / "calibrated.json").read_text())["rows"]
    rows += [row for row in json.loads((_RESULTS / "hpu.json").read_text())["rows"] if row["target"] is not None]
    header = ["scheme", "bits per weight", "file, MB", "perplexity", "loss against float32, nats a token", "seconds"]
    return table(header, [[*_demo_row(row), f"{row['quantize_seconds']:.0f}"] for row in rows])


def minilm_results() -> str:
    """How far the embeddings of an encoder turn away from those in float32."""
    found = json.loads((_RESULTS / "minilm.json").read_text())
    rows = [
        [
            code(row["scheme"]),
            f"{row['bits_per_weight']:.3f}",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['cosine_mean']:.5f}",
            f"{row['cosine_least']:.5f}",
        ]
        for row in found["rows"]
    ]
    return table(["scheme", "bits per weight", "MB", "mean cosine", "least cosine"], rows)


def gptq_peer_results() -> str:
    """Errors of a layer's output by GPTQ, beside other libraries."""
    found = json.loads((_RESULTS / "gptq_peers.json").read_text())
    versions = found["versions"]
    ours = [name for name in next(iter(found["errors"].values())) if name not in versions]
    rows = [
        [name, *(f"{row[one]:.8f}" if one in row else "" for one in [*ours, *versions])]
        for name, row in found["errors"].items()
    ]
    return table(["", *ours, *(f"{name} {version}" for name, version in versions.items())], rows)


def triton_speed() -> str:
    """Time of the Triton kernels, and the share of the bandwidth of a copy that they reach."""
    found = json.loads((_RESULTS / "triton.json").read_text())
    rows = [
        [
            name,
            f"{row['triton_microseconds']:.0f}",
            f"{row['triton_share_of_copy']:.0%}",
            f"{row['host_microseconds']:.0f}",
        ]
        for name, row in found["rows"].items()
    ]
    return table(["", "microseconds", "share of a copy's bandwidth", "microseconds of the host, a call"], rows)


def triton_matmul_speed() -> str:
    """Time of the Triton matrix products with the fastest tile tried, and the share of PyTorch's own rate."""
    found = json.loads((_RESULTS / "triton_matmul.json").read_text())
    fastest: dict[str, dict[str, Any]] = {}
    for title, row in found["rows"].items():
        # A row that names a tile stands after the one of the operation that it is a tile of.
        name = next((name for name in fastest if title.startswith(f"{name} ")), title)
        if name not in fastest or row["microseconds"] < fastest[name]["microseconds"]:
            fastest[name] = row
    rows = [
        [
            name,
            f"{row['microseconds']:.0f}",
            f"{row['teraops_per_second']:.0f}",
            f"{row['share_of_peak']:.0%}",
            f"{row['weight_gigabytes_per_second'] / 1e3:.1f}",
        ]
        for name, row in fastest.items()
    ]
    header = ["rows of x last", "microseconds", "TOP/s", "share of PyTorch's best", "weight read, TB/s"]
    return table(header, rows)


def public_kernels() -> str:
    """Errors and times of other people's Triton kernels, run on the CPU, beside those of Triton's interpreter."""
    found = json.loads((_RESULTS / "triton_public.json").read_text())
    header = ["kernel", "error", "PyTorch's", "of gradients", "PyTorch's", "ms", "interpreter: error", "ms"]
    return table(header, [_public_row(name, row, found["interpreter"][name]) for name, row in found["native"].items()])


def public_reports() -> str:
    """What was found in other people's Triton kernels, of all that was looked for."""
    found = json.loads((_RESULTS / "triton_public.json").read_text())
    return table(
        ["kernel", "report"],
        [
            [name, code(row["failure"].removeprefix("KernelError: "))]
            for way in ("mistakes", "nans")
            for name, row in found[way].items()
            if row.get("failure", "").startswith("KernelError")
        ],
    )


def native_language() -> str:
    """Of every operation of Triton's language the types with right results, compiled for the CPU and interpreted."""
    found = json.loads((_RESULTS / "triton_language.json").read_text())
    return table(
        ["operation", "types", "native: right", "not native", "interpreter: right", "wrong", "raises"],
        [
            [f"{group}: {operation}", str(len(row)), *_native_cells(row), *_interpreted_cells(interpreted)]
            for group, rows in found["native"].items()
            for operation, row in rows.items()
            for interpreted in [found["interpreter"][group][operation]]
        ],
    )


def _native_cells(row: dict[str, dict[str, Any]]) -> list[str]:
    wrong = {dtype: result["wrong"] for dtype, result in row.items() if result.get("wrong")}
    assert not wrong, f"wrong natively: {wrong}"
    gaps = [
        f"{', '.join(names)}: {said}"
        for kind, said in (("refused", "Triton refuses"), ("unsupported", "an error names it"))
        if (names := [dtype for dtype, result in row.items() if kind in result])
    ]
    return [str(sum("wrong" in result for result in row.values())), "; ".join(gaps)]


def _interpreted_cells(row: dict[str, dict[str, Any]]) -> list[str]:
    right = sum(result.get("wrong") == 0 for result in row.values())
    wrong = [dtype for dtype, result in row.items() if result.get("wrong")]
    others = sum("wrong" not in result for result in row.values())
    return [str(right), ", ".join(wrong), str(others or "")]


def _public_row(name: str, row: dict[str, Any], interpreted: dict[str, Any]) -> list[str]:
    there = (
        [f"{interpreted['error']:.1e}", f"{1e3 * interpreted['seconds']:.0f}"]
        if "seconds" in interpreted
        else ["raises", ""]
    )
    if "failure" in row:
        return [name, row["failure"], "", "", "", "", *there]
    errors = ("error", "error_of_pytorch", "gradient_error", "gradient_error_of_pytorch")
    return [name, *(f"{row[key]:.1e}" if key in row else "" for key in errors), f"{1e3 * row['seconds']:.1f}", *there]


def _demo_row(row: dict[str, Any]) -> list[str]:
    error = row["delta_nll_standard_error"]
    return [
        code(row["scheme"]),
        f"{row['bits_per_weight']:.3f}",
        f"{row['file_bytes'] / 1e6:.1f}",
        f"{row['perplexity']:.2f}",
        f"{row['delta_nll']:.4f} &plusmn; {error:.4f}" if error else "",
    ]
