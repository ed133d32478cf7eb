"""Implementations in other programs: asked over standard input and output, so that a crash or a hang is an error only.

A message is its length, 8 bytes little-endian, and that many bytes of a safetensors file. Its tensors are the arguments
by name, its metadata says what is wanted: `call` is the name of an operation and `options` a JSON object of all that is
no tensor. The answer has the results as tensors `0`, `1`, ..., or `unsupported` or `error` in its metadata. The first
message has `call` = `describe`, and the answer `ops` in its metadata: a JSON object that gives, for the name of each
operation, the declared options as lists. Beside it there may be `accumulators`, which gives for operations what
`incref.conformance.declaration` reads, and `choices`, which gives lists of lower-case names of `Choice`.
"""

import inspect
import json
import os
import selectors
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TypeGuard

import torch
from safetensors.torch import load, save
from torch import Tensor

from incref.backends.declared import ANY_ORDER
from incref.conformance.case import Arguments, argument_text
from incref.conformance.declaration import read_accumulator
from incref.conformance.implementation import Candidate, Choice, Implementation
from incref.conformance.report import Json
from incref.errors import IncrefError, UnsupportedError
from incref.formats import Format
from incref.numerics.granularity import Granularity
from incref.ops.table import OPS

__all__ = ["PipeError", "Program", "pipe_implementation"]

_LENGTH_BYTES = 8


class PipeError(IncrefError, RuntimeError):
    """Another program crashed, took too long, or answered what is no answer; the message says which."""


@dataclass(kw_only=True)
class Program:
    """A program that answers messages, started when it is first asked and again after it failed.

    Attributes:
        command: with its arguments.
        seconds: how long an answer may take.
    """

    command: str
    seconds: float = 10.0
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)

    def describe(self) -> tuple[Candidate, ...]:
        """Ask what it implements, and what it declares.

        Raises:
            PipeError: if it does not say.
            ValueError: if it names an operation, an option, an accumulator or a choice that does not exist.
        """
        _, metadata = self._ask({}, {"call": "describe"})
        try:
            found = json.loads(metadata["ops"])
            accumulators, choices = (json.loads(metadata.get(name, "{}")) for name in ("accumulators", "choices"))
        except (KeyError, ValueError) as error:
            raise PipeError(f"{self.command}: describe must give ops as JSON, got {metadata}") from error
        if not found or not _is_table(found):
            raise PipeError(f"{self.command}: ops must give lists of options for at least one operation, got {found!r}")
        for name, declared in (("accumulators", accumulators), ("choices", choices)):
            if not isinstance(declared, dict) or not set(declared) <= set(found):
                raise PipeError(f"{self.command}: {name} must be an object by operations of ops, got {declared!r}")
        if not all(isinstance(some, list) for some in choices.values()):
            raise PipeError(f"{self.command}: choices must be lists, got {choices!r}")
        return tuple(
            Candidate(
                op=op,
                fn=partial(_call, self, op),
                options={name: _Words(some) for name, some in options.items()},
                choices=frozenset(map(Choice, choices.get(op, ()))),
                accumulator=read_accumulator(accumulators[op]) if op in accumulators else ANY_ORDER,
            )
            for op, options in found.items()
        )

    def call(self, op: str, arguments: Arguments) -> tuple[Tensor, ...]:
        """Ask for the results of an operation.

        Raises:
            UnsupportedError: if the program says that it does not do this.
            PipeError: if it fails.
        """
        tensors = {name: one.cpu().contiguous() for name, one in arguments.items() if isinstance(one, Tensor)}
        options = {name: _as_json(one) for name, one in arguments.items() if not isinstance(one, Tensor)}
        results, metadata = self._ask(tensors, {"call": op, "options": json.dumps(options)})
        if "unsupported" in metadata:
            raise UnsupportedError(metadata["unsupported"])
        if "error" in metadata or not results:
            raise PipeError(f"{self.command}: {metadata.get('error', 'no result')}")
        return tuple(results[str(i)] for i in range(len(results)))

    def close(self) -> None:
        """End the program."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
        if self._process is None:
            self._process = self._start()
        message = save(tensors, metadata)
        try:
            answer = self._exchange(self._process, len(message).to_bytes(_LENGTH_BYTES, "little") + message)
            header_bytes = int.from_bytes(answer[:_LENGTH_BYTES], "little")
            header = json.loads(answer[_LENGTH_BYTES : _LENGTH_BYTES + header_bytes])
            return load(answer), header.get("__metadata__", {})
        except PipeError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise PipeError(f"{self.command}: the answer is no safetensors message: {error}") from error

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            words = shlex.split(self.command)
            return subprocess.Popen(  # noqa: S603  # running what the user names is the purpose
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except (OSError, ValueError, IndexError) as error:
            raise PipeError(f"{self.command!r} can't be started: {error}") from error

    def _exchange(self, process: "subprocess.Popen[bytes]", message: bytes) -> bytes:
        deadline = time.monotonic() + self.seconds
        try:
            self._write(process, message, deadline)
        except BrokenPipeError as error:
            raise PipeError(self._ending(process)) from error
        length = int.from_bytes(self._read(process, _LENGTH_BYTES, deadline), "little")
        return self._read(process, length, deadline)

    def _write(self, process: "subprocess.Popen[bytes]", message: bytes, deadline: float) -> None:
        assert process.stdin is not None
        rest = memoryview(message)
        # A program that does not read must not hold up the run: no write waits.
        os.set_blocking(process.stdin.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdin, selectors.EVENT_WRITE)
            while rest:
                self._wait(selector, deadline)
                rest = rest[os.write(process.stdin.fileno(), rest) :]

    def _read(self, process: "subprocess.Popen[bytes]", count: int, deadline: float) -> bytes:
        assert process.stdout is not None
        found = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while len(found) < count:
                self._wait(selector, deadline)
                part = os.read(process.stdout.fileno(), count - len(found))
                if not part:
                    raise PipeError(self._ending(process))
                found += part
        return bytes(found)

    def _wait(self, selector: selectors.BaseSelector, deadline: float) -> None:
        if not selector.select(max(deadline - time.monotonic(), 0)):
            raise PipeError(f"{self.command} gave no answer in {self.seconds:g} s")

    def _ending(self, process: "subprocess.Popen[bytes]") -> str:
        try:
            return f"{self.command} ended with exit code {process.wait(self.seconds)}"
        except subprocess.TimeoutExpired:
            return f"{self.command} closed its end of the pipe"


def pipe_implementation(command: str, *, seconds: float = 10.0) -> tuple[Implementation, Program]:
    """Make an implementation of a program, which is asked at once what it does.

    Args:
        command: with its arguments.
        seconds: how long an answer may take.

    Raises:
        PipeError: if it does not say.
        ValueError: if it names operations, or declares anything, that do not exist.
    """
    program = Program(command=command, seconds=seconds)
    return Implementation.of(command, *program.describe()), program


def _is_table(found: object) -> TypeGuard[Mapping[str, Mapping[str, list[Json]]]]:
    """Whether each operation has an object of lists."""
    options = found.values() if isinstance(found, dict) else [found]
    return all(isinstance(one, dict) and all(isinstance(some, list) for some in one.values()) for one in options)


class _Words(tuple[object, ...]):
    """Values of an option as words: a mode is among them if its lower-case name is."""

    __slots__ = ()

    def __contains__(self, value: object) -> bool:
        return any(value == one or argument_text(value) == argument_text(one) for one in self)


def _call(program: Program, op: str, *args: object, **kwargs: object) -> tuple[Tensor, ...]:
    """Take arguments as the reference does, and name them."""
    bound = inspect.signature(OPS[op].reference).bind(*args, **kwargs)
    return program.call(op, bound.arguments)


def _as_json(value: object) -> Json:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, Granularity):
        return {"block": list(value.block), "lead": value.lead}
    if isinstance(value, Format):
        return value.name
    raise TypeError(f"an option must be a number, a word, a mode, a dtype or a granularity, got {type(value).__name__}")
