"""Load a GPTQ checkpoint, and generate with it.

The workflow is that of Neural Compressor; only the imports differ. `MODEL` is a directory or a name of the hub: run
`python examples/load_gptq_checkpoint.py TheBloke/Llama-2-7B-Chat-GPTQ`, or another of AutoGPTQ, GPTQModel, AutoAWQ or
compressed-tensors.
"""

import argparse

import torch
from torch import nn
from transformers import AutoTokenizer

from incref import load


def load_checkpoint(name_or_path: str, device: str) -> nn.Module:
    """Load a quantized model; weights stay packed, and are dequantized as they are needed."""
    return load(model_name_or_path=name_or_path, format="huggingface", device=device, torch_dtype=torch.bfloat16)


@torch.no_grad()
def generate(model: nn.Module, ids: torch.Tensor, count: int) -> torch.Tensor:
    """Append `count` tokens to `ids` [1, n], the likeliest each."""
    for _ in range(count):
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    return ids


def main(arguments: list[str] | None = None) -> None:
    """Load the model, show what a layer has become, and go on with a text."""
    parser = argparse.ArgumentParser(description="Load a GPTQ checkpoint, and generate with it.")
    parser.add_argument("model", help="a directory or a name of the hub")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args(arguments)
    model = load_checkpoint(options.model, options.device)
    print(next(module for module in model.modules() if hasattr(module, "qweight")))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    ids = torch.tensor([tokenizer.encode(options.prompt)], device=options.device)
    print(tokenizer.decode(generate(model, ids, options.tokens)[0].tolist()))


if __name__ == "__main__":
    main()
