"""CoNLL files: a word and its tag on every line, blank lines between sentences. Read, and written again as they are."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from datasets import Dataset

from hftl.data.columns import records_table
from hftl.errors import DataError


_BREAK = re.compile(r"(\r\n|\r|\n)")
_COMMENT = re.compile(r"#\s")  # such as "# sent_id = 3"
_Sentence = list[tuple[int, list[str]]]  # the number of each line, from 0, and its cells


def read_conll(path: Path, text: str) -> Dataset:
    """Return the sentences of a CoNLL file as lists of "tokens" and of "tags": its first and its last column.

    Those between are "column_2" and so on. Columns stand apart by tabs, or by spaces; a blank line ends a sentence, -DOCSTART- lines and comments are left
    out. Raises `DataError` naming the line that has fewer columns than the first one.
    """
    rows: list[dict[str, list[str]]] = []
    for sentence in _sentences(path, _BREAK.split(text)[::2]):
        cells = [one for _, one in sentence]
        names = ("tokens", *(f"column_{i}" for i in range(2, len(cells[0]))), "tags")
        rows.append(dict(zip(names, map(list, zip(*cells, strict=True)), strict=True)))
    if not rows:
        raise DataError(f"{path.name} holds no sentences: a word and its tag are needed on every line")
    return records_table(rows, path.name)


def _sentences(path: Path, lines: Sequence[str]) -> Iterator[_Sentence]:
    sentence: _Sentence = []
    width = 0
    for number, line in enumerate([*lines, ""]):
        cells = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or cells[0] == "-DOCSTART-":
            if sentence:
                yield sentence
            sentence = []
            continue
        if not sentence and _COMMENT.match(line) and len(cells) != width:
            continue
        width = width or len(cells)
        if len(cells) < 2 or len(cells) != width or not cells[0].strip() or not cells[-1].strip():
            raise DataError(
                f"{path.name}, line {number + 1}: {line[:60]!r} has {len(cells)} column{'s' * (len(cells) != 1)}, and "
                f"{max(2, width)} are needed: a word and its tag, with blank lines between sentences"
            )
        sentence.append((number, [*cells[:-1], cells[-1].strip()]))


def conll_copy(path: Path, text: str, rows: Collection[int], column: int, tags: Mapping[int, Sequence[str]]) -> str:
    """Return the text of a CoNLL file with these sentences alone, some of them with other cells in a column.

    Comments stay before their sentence, blank lines after it; what belongs to none, such as -DOCSTART-, stays as it is.
    """
    parts = _BREAK.split(text)
    lines, breaks = parts[::2], [*parts[1::2], ""]
    owner: list[int | None] = [None] * len(lines)
    for row, sentence in enumerate(_sentences(path, parts[::2])):
        begin, end = sentence[0][0], sentence[-1][0] + 1
        while begin and owner[begin - 1] is None and _COMMENT.match(lines[begin - 1]):
            begin -= 1
        while end < len(lines) and not lines[end].strip():
            end += 1
        owner[begin:end] = [row] * (end - begin)
        for (number, cells), tag in zip(sentence, tags.get(row, ()), strict=False):
            if tag != cells[column]:
                lines[number] = _with_cell(lines[number], column, tag)
    places = {None, *rows}
    return "".join(f"{lines[i]}{breaks[i]}" for i, one in enumerate(owner) if one in places)


def _with_cell(line: str, column: int, cell: str) -> str:
    """Return a line with another cell in a column, and all else as it stands."""
    if "\t" in line:
        cells = line.split("\t")
        cells[column] = cells[column].replace(cells[column].strip(), cell)
        return "\t".join(cells)
    there = [*re.finditer(r"\S+", line)][column]
    return f"{line[: there.start()]}{cell}{line[there.end() :]}"
