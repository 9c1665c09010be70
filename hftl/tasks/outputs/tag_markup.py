"""Entities in a row as a person types them: "[Ada Lovelace](person) lived in [London](place) .", as Rasa writes them."""

import re
from collections.abc import Collection, Sequence

from hftl.data.columns import shortened
from hftl.errors import DataError
from hftl.evaluation.span_scores import entities, read_tags
from hftl.tasks.outputs.names import typed_name
from hftl.tasks.outputs.tag_schemes import OUTSIDE, scheme_of


_END = re.compile(r"\]\(([^()]*(?:\([^()]*\))?[^()]*)\)")


def marked_up(ids: Sequence[int], names: Sequence[str], words: Sequence[str]) -> str:
    """Return the words with spaces between them, and the entities among them marked."""
    pieces, at = [], 0
    for kind, first, last in entities([names[i] for i in ids][: len(words)]):
        pieces += [*words[at:first], f"[{' '.join(words[first : last + 1])}]({kind})"]
        at = last + 1
    return " ".join([*pieces, *words[at:]])


def typed_tags(text: str, known: Collection[str], words: Sequence[str]) -> tuple[str, ...]:
    """Return the tag of every word, in BIO where the `known` tags are in a scheme, of a row whose entities were marked.

    Raises `DataError` where the text holds other words than the row, for a type that the data do not have, and for a
    mark that is not closed or holds no word.
    """
    plain, types = scheme_of(known) == "none", read_tags(sorted(known)).types
    tags: list[str] = []
    begin: int | None = None  # word at which the open mark begins
    at = 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        while len(tags) < len(words) and not words[len(tags)].strip():  # a sign that is not seen
            tags.append(OUTSIDE)
        end, word = _END.match(text, at), words[len(tags)].strip() if len(tags) < len(words) else None
        if end and begin is not None:
            kind = typed_name(end[1].strip(), types, "type of entity")
            if begin == len(tags):
                raise DataError(f"the mark of {kind} holds no word: write it as [word]({kind})")
            tags[begin:] = [kind if plain else f"{'I' if i else 'B'}-{kind}" for i in range(len(tags) - begin)]
            begin, at = None, end.end()
        elif word is not None and text.startswith(word, at) and _is_whole(text, at + len(word)):
            tags.append(OUTSIDE)
            at += len(word)
        elif text[at] == "[" and begin is None:
            begin, at = len(tags), at + 1
        else:
            there = shortened(text[at:].split()[0])
            needed = f"the row goes on with {shortened(word)}" if word is not None else "the row ends before it"
            raise DataError(f"{there} is not in the row there: {needed}. Leave its words, and mark as [words](type)")
    if begin is not None:
        raise DataError("a mark is not closed: write it as [words](type)")
    if len(tags) < len(words):
        raise DataError(
            f"the row goes on with {shortened(words[len(tags)])}: leave its words, and mark as [words](type)"
        )
    if OUTSIDE in tags and OUTSIDE not in known and plain:
        raise DataError(f"{shortened(words[tags.index(OUTSIDE)])} has no tag: mark every word as [word](tag)")
    return tuple(tags)


def _is_whole(text: str, end: int) -> bool:
    """Does what was read end there: at a space, at the end of a mark, or of the text?"""
    return end == len(text) or text[end].isspace() or _END.match(text, end) is not None
