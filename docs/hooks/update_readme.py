"""Write the generated tables into README.md, between `<!-- table: NAME -->` and `<!-- end -->`."""

import re
from pathlib import Path

from tables import TABLES

README = Path(__file__).parents[2] / "README.md"
_PART = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def main() -> None:
    """Bring the tables of the README up to date."""
    text = README.read_text()
    README.write_text(_PART.sub(lambda match: f"{match[1]}{match[2]}{TABLES[match[1]]()}\n", text))


if __name__ == "__main__":
    main()
