import platform

import pytest
import torch

from incref.checkpoints import versions as module
from incref.checkpoints.versions import versions


def test_names_what_is_installed() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__


def test_missing_package_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGES", ("no-such-package",))
    assert versions()["no-such-package"] is None
