"""`incref generate`: text from a model, float or quantized."""

import json
from typing import Annotated

import typer

from incref.cli.bars import bars
from incref.cli.failures import reporting_failures
from incref.cli.options import AsJson, BackendName, Fallback, ModelDirectory, Quiet
from incref.evaluation.cache import cache_weights
from incref.evaluation.generate import generate_greedily
from incref.evaluation.huggingface import load_any, load_tokenizer, stop_ids
from incref.evaluation.text import encode_question

__all__ = ["generate"]


Chat = Annotated[bool, typer.Option("--chat", help="Ask the prompt as a question, in the model's chat template.")]


def generate(  # noqa: PLR0917  # typer takes options by annotation
    directory: ModelDirectory,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to go on from.")],
    chat: Chat = False,  # noqa: FBT002  # typer makes a flag of it
    max_new_tokens: Annotated[int, typer.Option(min=1, help="How many tokens to add at most.")] = 64,
    backend: BackendName = None,
    fallback: Fallback = False,  # noqa: FBT002  # likewise
    json_: AsJson = False,  # noqa: FBT002  # likewise
    quiet: Quiet = False,  # noqa: FBT002  # likewise
) -> None:
    """Continue a text by the most likely tokens: the same text every time.

    DIR may be a float model, or what `incref quantize` made.
    """
    with reporting_failures():
        tokenizer = load_tokenizer(directory)
        ids = encode_question(tokenizer, prompt) if chat else tokenizer.encode(prompt, add_special_tokens=True)
        if not ids:
            raise typer.BadParameter("a prompt must have at least one token, got none", param_hint="PROMPT")
        model = load_any(directory, backend=backend, fallback="reference" if fallback else None)
        cache_weights(model)
        with bars(quiet=quiet) as progress:
            task = progress.add_task("generating", total=max_new_tokens)
            added = generate_greedily(
                model,
                ids,
                max_new_tokens=max_new_tokens,
                stop_ids=stop_ids(directory),
                on_token=lambda _: progress.advance(task),
            )
        continuation = tokenizer.decode(added, skip_special_tokens=True)
    if json_:
        typer.echo(json.dumps({"prompt": prompt, "continuation": continuation, "token_ids": added}, indent=2))
    else:
        typer.echo(continuation if chat else prompt + continuation)
