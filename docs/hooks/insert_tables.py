"""Put the generated tables into the pages: a line `<!-- table: NAME -->` becomes what `TABLES[NAME]` returns."""

import re

from tables import TABLES

_LINE = re.compile(r"^<!-- table: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace every table line of a page; called by MkDocs."""
    return _LINE.sub(lambda match: TABLES[match[1]](), markdown)
