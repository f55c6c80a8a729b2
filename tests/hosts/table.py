"""Makes the table of docs/hosts.md from the records."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "records"
DOC = HERE.parents[1] / "docs" / "hosts.md"
BEGIN, END = "<!-- table: python -m tests.hosts table -->", "<!-- end of the table -->"


def rows() -> str:
    """The table: one line for each thing that was tried."""
    lines = ["| host | version | what was done | result | date |", "| --- | --- | --- | --- | --- |"]
    for path in sorted(RECORDS.glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        name, version = record["title"], record["version"]
        for check in record["checks"]:
            mark = "" if check["ok"] else "**fails**: "
            lines.append(f"| {name} | {version} | {check['what']} | {mark}{check['said']} | {record['date']} |")
            name = version = ""
    return "\n".join(lines)


def filled(text: str) -> str:
    """The document with the present table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{rows()}\n\n{END}{after}"


def write() -> None:
    DOC.write_text(filled(DOC.read_text("utf-8")), encoding="utf-8", newline="\n")
