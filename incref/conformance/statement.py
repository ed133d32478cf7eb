"""A statement of what a run found: hashed, so that whoever has it can see whether it belongs to what he has.

It is not signed; who wants that signs the file with his own key. It says what passed, never that anything is correct.
"""

import hashlib
import json
from pathlib import Path

from incref.conformance.report import SCHEMA as RESULT_SCHEMA
from incref.conformance.report import Json
from incref.conformance.result import Status
from incref.conformance.suite import SUITE, suite_digest
from incref.ops.table import OPS

__all__ = ["SCHEMA", "make_statement", "verify_statement"]

SCHEMA = "incref-conformance-statement/1"


def make_statement(result_path: Path, files: tuple[Path, ...] = ()) -> dict[str, Json]:
    """Make a statement of a result.

    Args:
        result_path: the JSON that `incref conform run --json` wrote.
        files: sources or binaries of the implementation, whose hashes are stated too.

    Raises:
        ValueError: if the file is no result.
    """
    result = _read(result_path)
    statement: dict[str, Json] = {
        "schema": SCHEMA,
        "says": result["verdict"],
        "does_not_say": "that the implementation is right for other inputs, other options or another machine",
        "implementation": result["implementation"],
        "suite": result["suite"],
        "contracts": {op: _contract(op) for op in _words(result["by_op"])},
        "level": result["level"],
        "profile": result["profile"],
        "seed": result["seed"],
        "counts": result["counts"],
        "declared": result["declared"],
        "not_passed": _left_out(result),
        "environment": result["environment"],
        "result_sha256": _digest(result_path.read_bytes()),
        "files_sha256": {path.name: _digest(path.read_bytes()) for path in files},
    }
    return statement | {"sha256": _digest(_canonical(statement))}


def verify_statement(statement: dict[str, Json], result_path: Path, files: tuple[Path, ...] = ()) -> list[str]:
    """Recompute what a statement says of files that are here, and of the suite that is installed.

    Returns:
        What does not agree, in words; nothing if all does.
    """
    rest = {name: value for name, value in statement.items() if name != "sha256"}
    wrong = []
    if statement.get("schema") != SCHEMA:
        wrong.append(f"the schema must be {SCHEMA}, got {statement.get('schema')!r}")
    if statement.get("sha256") != _digest(_canonical(rest)):
        wrong.append("the statement was changed: its hash is another")
    if statement.get("result_sha256") != _digest(result_path.read_bytes()):
        wrong.append(f"{result_path} is not the result that it was made of")
    result = _read(result_path)
    again = make_statement(result_path, files)
    wrong += [
        f"{name} is {again[name]!r} by the result, the statement has {statement.get(name)!r}"
        for name in ("says", "counts", "not_passed", "level", "profile", "seed", "files_sha256")
        if again[name] != statement.get(name)
    ]
    counted = _counted(result)
    if counted != result["counts"]:
        wrong.append(f"the cases of the result give {counted}, it says {result['counts']}")
    if bool(result["is_good"]) != (_is_good(counted)):
        wrong.append("the result says that it is good, and its cases that it is not, or the other way round")
    if statement.get("suite") != {"version": SUITE, "sha256": suite_digest()}:
        wrong.append("it was made with another version of the suite than is installed here")
    return wrong


def _is_good(counts: dict[str, Json]) -> bool:
    bad = any(counts[status.value] for status in Status if status.is_bad)
    return bool(counts[Status.PASS.value]) and not bad


def _counted(result: dict[str, Json]) -> dict[str, Json]:
    cases = _words(result["cases"])
    return {status.value: sum(one == status.value for one in cases.values()) for status in Status}


def _left_out(result: dict[str, Json]) -> dict[str, Json]:
    """The reasons why cases did not pass, with the number of each."""
    counts: dict[str, Json] = {}
    found = result["not_passed"]
    assert isinstance(found, list)
    for one in found:
        row = _words(one)
        name = f"{row['status']}: {row['reason']}"
        before = counts.get(name, 0)
        assert isinstance(before, int)
        counts[name] = before + 1
    return counts


def _contract(op: str) -> str:
    """Version and hash of the words and the signature of an operation."""
    contract = OPS[op]
    said = f"{contract.name} {contract.version} {contract.exactness} {contract.args} {contract.results}"
    return f"{contract.version} sha256 {_digest((said + (contract.__doc__ or '')).encode())}"


def _read(path: Path) -> dict[str, Json]:
    found = json.loads(path.read_text())
    if not isinstance(found, dict) or found.get("schema") != RESULT_SCHEMA:
        raise ValueError(f"{path} must be a result with the schema {RESULT_SCHEMA}")
    return found


def _words(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value


def _canonical(value: Json) -> bytes:
    """Sorted keys, no spaces: one way to write it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
