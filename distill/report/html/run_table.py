"""The sortable table: one body per configuration, its row first, then its runs with their commands."""

from html import escape

from distill.report.aggregate import Column, Configuration, Sweep
from distill.report.number_format import plain, show
from distill.runs.reading import Run


def table(found: Sweep, commands: dict[str, str]) -> str:
    """Return the table; a cell's data-v is what it is sorted by."""
    columns = found.columns
    bodies = "".join(_body(c, found, columns, commands) for c in found.configurations)
    return f'<div class="scroll"><table id="runs"><thead>{_groups(found, columns)}{_headings(found, columns)}</thead>{bodies}</table></div>'


def _groups(found: Sweep, columns: list[Column]) -> str:
    cells = [f'<th colspan="{len(found.keys) + 2}">settings</th>']
    for group in dict.fromkeys(column.group for column in columns):
        cells.append(f'<th colspan="{sum(column.group == group for column in columns)}">{group}</th>')
    return f"<tr>{''.join(cells)}</tr>"


def _headings(found: Sweep, columns: list[Column]) -> str:
    def head(words: str, classes: str = "", more: str = "") -> str:
        broken = escape(words).replace(".", ".<wbr>")
        return f'<th scope="col" class="{classes}"{more}><button type="button">{broken}</button></th>'

    cells = [head("#", "", ' aria-sort="ascending" data-better="min"')]
    cells += [head(key, "word") for key in found.keys] + [head("n")]
    for column, edge in zip(columns, _edges(columns), strict=True):
        cells.append(head(column.title, edge, f' data-better="{column.better}" data-name="{column.name}"'))
    return f"<tr>{''.join(cells)}</tr>"


def _edges(columns: list[Column]) -> list[str]:
    """Return the class that draws a line to the left of each group."""
    before = [None, *(column.group for column in columns)]
    return ["edge" if column.group != last else "" for column, last in zip(columns, before, strict=False)]


def _body(c: Configuration, found: Sweep, columns: list[Column], commands: dict[str, str]) -> str:
    fold = (
        f'<button type="button" aria-expanded="false" aria-label="runs of configuration {c.number}">{c.number}</button>'
    )
    settings = "".join(_setting(c.values[key]) for key in found.keys)
    spreads = {column.name for column in columns if any(column.name in other.spread for other in found.configurations)}
    edges = _edges(columns)
    cells = "".join(_cell(column, c, edge, column.name in spreads) for column, edge in zip(columns, edges, strict=True))
    own = f'<td data-v="{c.number}">{fold}</td>{settings}<td data-v="{len(c.runs)}">{c.repeats}</td>{cells}'
    width = len(found.keys) + 2
    seeds = "".join(_seed(run, columns, width) for run in c.runs) if len(c.runs) > 1 else ""
    more = "".join(_more(run, commands) for run in c.runs)
    best = any(c is members[0] for members in found.by_faces)
    more = f'<tr class="more"><td colspan="{width + len(columns)}"><div>{more}</div></td></tr>'
    return f'<tbody data-c="{c.number}"><tr class="row{" best" if best else ""}">{own}</tr>{seeds}{more}</tbody>'


def _setting(value: object) -> str:
    return f'<td class="word" data-v="{escape(plain(value, ""))}">{escape(plain(value))}</td>'


def _cell(column: Column, c: Configuration, edge: str, has_spread: bool) -> str:
    value = c.mean.get(column.name)
    words, _, spread = show(column, value, c.spread.get(column.name)).partition(" ± ")
    pm = f'<span class="pm">{"&thinsp;± " + spread if spread else ""}</span>' if has_spread else ""
    return f'<td class="{edge}" data-v="{"" if value is None else f"{value:.9g}"}">{words}{pm}</td>'


def _seed(run: Run, columns: list[Column], width: int) -> str:
    cells = "".join(
        f'<td class="{edge}">{show(column, run.numbers.get(column.name))}</td>'
        for column, edge in zip(columns, _edges(columns), strict=True)
    )
    return f'<tr class="seed"><td colspan="{width}">seed {escape(str(run.config.get("seed")))}</td>{cells}</tr>'


def _more(run: Run, commands: dict[str, str]) -> str:
    seed = f"seed {run.config.get('seed')}"
    parts = f", {len(run.parts)} {'folds' if run.result.get('folds') else 'generations'}" if run.parts else ""
    best, epochs = run.result.get("best_epoch"), run.result.get("epochs")
    known = isinstance(best, int) and best >= 0 and not run.parts
    epoch = f", best epoch {best + 1} of {epochs}" if known else ""
    return (
        f'<span class="small">{escape(seed + parts + epoch)}: <code>{escape(str(run.folder))}</code></span>'
        f'<div class="command"><code>{escape(commands[str(run.folder)])}</code><button type="button" class="needs-js">copy</button></div>'
    )
