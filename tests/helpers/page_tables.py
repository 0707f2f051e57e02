"""The tables of README.md and docs/ as they are read."""

from commandline import ROOT


def tables(page: str) -> list[list[dict[str, str]]]:
    """Return the tables of a page, each as its rows, heading -> cell."""
    found, heads, rows = [], None, []
    for line in [*(ROOT / page).read_text().splitlines(), ""]:
        cells = (
            [cell.strip().replace("<br>", " ") for cell in line.strip("|").split("|")] if line.startswith("|") else None
        )
        if cells is None:
            found += [rows] if rows else []
            heads, rows = None, []
        elif heads is None:
            heads = cells
        elif not line.startswith("|---"):
            rows.append(dict(zip(heads, cells, strict=True)))
    return found


def table(page: str, *heads: str) -> list[dict[str, str]]:
    """Return the one table with these headings."""
    (found,) = (rows for rows in tables(page) if {*heads} <= rows[0].keys())
    return found
