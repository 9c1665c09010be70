"""Tables on the terminal: Rich where a person looks, plain aligned lines otherwise. Always on stderr or as asked."""

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, stdout: bool = False) -> None:
    """Print rows under a header. Cells are shown as they are: no markup in a label or file name is interpreted."""
    stream = sys.stdout if stdout else sys.stderr
    cells = [[str(cell) for cell in row] for row in rows]
    if stream.isatty():
        table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for name in header:
            table.add_column(Text(name))
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        Console(file=stream).print(table)
        return
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in [header, *cells]]
    lines = ["  ".join(line).rstrip() for line in padded]
    stream.write("\n".join([title, *lines]) + "\n\n")
    stream.flush()
