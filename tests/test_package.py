"""What is installed: the packages that users import, typed, with their entry points."""

import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    return zipfile.ZipFile(next(folder.glob("*.whl"))).namelist()


def test_wheel_ships_only_what_users_import(wheel: list[str]) -> None:
    folders = {name.split("/")[0] for name in wheel}
    shipped = {folder for folder in folders if not folder.endswith(".dist-info")}
    assert shipped <= {"incref", "incref_kernels", "incref_triton_native.pth"}


def test_wheel_ships_every_source_file(wheel: list[str]) -> None:
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "incref").rglob("*.py")}
    assert sources <= set(wheel)


def test_wheel_is_typed_and_licensed(wheel: list[str]) -> None:
    assert "incref/py.typed" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_entry_points_load() -> None:
    points = distribution("incref").entry_points
    assert {(point.group, point.name) for point in points} >= {("console_scripts", "incref")}
    for point in points:
        point.load()


def test_every_extra_that_dev_names_exists() -> None:
    extras = set(distribution("incref").metadata.get_all("Provides-Extra") or [])
    named = re.search(r'"incref\[(.*?)\]"', (ROOT / "pyproject.toml").read_text())
    assert named is not None
    assert set(named[1].split(",")) <= extras
