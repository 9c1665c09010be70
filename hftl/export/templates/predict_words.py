"""What predict.py, or the app of a Space, needs beside to find entities: the tags of the words of a text, joined."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from words import answered, split_words, starts_of, text_of


def by_row(inputs, graph, names):
    """For every text, or list of words, what `by_word` has of it."""
    tokenizer = Tokenizer.from_file(str(Path(__file__).resolve().with_name("tokenizer.json")))

    def tags_of(ids):
        return graph.run(["probabilities"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]

    for text in inputs:
        yield by_word(text, tokenizer, tags_of, len(names))


def by_word(text, tokenizer, tags_of, width):
    """The words of a text, or list of words, where they start, and the probability of every tag, [words, tags].

    The tokenizer cuts windows, and `tags_of` has the probabilities of every token of one, [tokens, tags], by their ids.
    """
    stride = (tokenizer.truncation or {}).get("stride", 0)
    even = np.full(width, 1 / width)  # of a word of which the tokenizer leaves nothing
    words, starts = split_words(text) if isinstance(text, str) else (list(text), starts_of(text))
    encoding = tokenizer.encode(words, is_pretokenized=True)
    windows = [encoding, *encoding.overflowing]
    rows = []
    for window, places in zip(windows, answered([w.word_ids for w in windows], len(words), stride), strict=True):
        tags = tags_of(np.array([window.ids], dtype=np.int64))  # each window runs on its own, so that none is padded
        rows += [even if place < 0 else tags[place] for place in places]
    return words, starts, np.array(rows).reshape(-1, width)


def entities(words, starts, rows, names):
    """(type, score, start, end, text): words of one type that follow each other, up to the next B-."""
    runs, before = [], None
    for number, row in enumerate(rows):
        tag = names[row.argmax()] if np.ptp(row) > 0 or "O" not in names else "O"
        name = None if tag == "O" else tag[2:] if tag[:2] in ("B-", "I-") else tag
        if name is not None and (name != before or tag.startswith("B-")):
            runs.append((name, []))
        if name is not None:
            runs[-1][1].append(number)
        before = name
    for name, run in runs:
        first, end = run[0], run[-1] + 1
        begin = starts[first]
        text = text_of(words[first:end], [start - begin for start in starts[first:end]])
        yield name, float(rows[first:end].max(axis=1).mean()), begin, begin + len(text), text


def lines(inputs, graph, names):
    for number, row in enumerate(by_row(inputs, graph, names)):
        for name, score, start, end, text in entities(*row, names):
            yield f"{number}\t{name}\t{score:.4f}\t{start}\t{end}\t{text}"
