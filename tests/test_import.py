"""What `import incref` brings in, and what it gives."""

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import incref

SLOW = ("rich", "typer", "transformers", "safetensors", "sympy", "torch._dynamo", "torch._inductor", "torch", "numpy")

FOR_FEW = (
    "incref.algorithms.gptq",
    "incref.autotune",
    "incref.checkpoints",
    "incref.conformance",
    "incref.config.table",
    "incref.export",
    "incref.oracle",
    "incref.workflow.blockwise",
    "incref.workflow.load",
    "incref.workflow.save",
    "incref.workflow.smooth",
    "incref_kernels",
    "safetensors",
)


def modules_after(code: str) -> set[str]:
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(found.stdout.split())


def test_importing_incref_alone_imports_nothing_else() -> None:
    assert {name for name in modules_after("import incref") if name.startswith("incref")} == {"incref"}
    assert modules_after("import incref").isdisjoint(SLOW)


def test_what_users_call_needs_no_compiler_no_command_line_and_no_hugging_face() -> None:
    used = modules_after("from incref import RTNConfig, autotune, convert, load, quantize, save")
    torch_alone = modules_after("import torch")
    for name in SLOW:
        assert name not in used - torch_alone or name == "safetensors"


@pytest.mark.parametrize("names", ["quantize", "prepare, convert"])
def test_what_few_conversions_need_is_imported_by_those(names: str) -> None:
    used = modules_after(f"from incref import {names}")
    assert "incref.workflow.convert" in used
    for part in FOR_FEW:
        assert not {name for name in used if name == part or name.startswith(f"{part}.")}


@pytest.mark.parametrize("name", incref.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(incref)
    assert not isinstance(getattr(incref, name), ModuleType)


def test_what_is_typed_is_what_is_imported() -> None:
    tree = ast.parse(Path(str(incref.__file__)).read_text())
    typed = {
        alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("incref.")
        for alias in node.names
    }
    assert typed == incref._HOMES
    assert sorted(typed) == sorted(incref.__all__)


def test_autotune_is_the_function_whatever_was_imported_before() -> None:
    for first in ("import incref.autotune.metric", "from incref import Metric", "import incref"):
        then = "import incref\nfrom incref import autotune\nassert autotune is incref.autotune\nautotune.__code__"
        code = f"{first}\n{then}"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'incref' has no attribute 'quantise'"):
        incref.quantise  # noqa: B018  # asking is the test
