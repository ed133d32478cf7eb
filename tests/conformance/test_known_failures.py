import sys
from pathlib import Path

import pytest

from incref.conformance.known_failures import KnownFailure, find_known, read_known_failures

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the standard library reads TOML from 3.11 on")


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    path.write_text('[[known_failure]]\ncases = "encode@*"\nreason = "ties"\nlink = "https://example.org/1"\n')
    (known,) = read_known_failures(path)
    assert known == KnownFailure(cases="encode@*", reason="ties", link="https://example.org/1")
    assert find_known("encode@1.0/all/x", [known]) is known
    assert find_known("decode@1.0/all/x", [known]) is None


@pytest.mark.parametrize(
    "text",
    [
        '[[known_failure]]\ncases = "*"\nreason = "ties"\n',
        '[[known_failure]]\ncases = "*"\nreason = "ties"\nlink = ""\n',
        '[[known_failure]]\ncases = "*"\nreason = " "\nlink = "x"\n',
        "[[known_failures]]\n",
        '[[known_failure]]\ncases = "*"\nreason = "ties"\nlink = "x"\nstrict = false\n',
    ],
    ids=["no link", "empty link", "empty reason", "another table", "another key"],
)
def test_entries_say_why_and_where(tmp_path: Path, text: str) -> None:
    path = tmp_path / "known.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"must have cases|needs a reason"):
        read_known_failures(path)
