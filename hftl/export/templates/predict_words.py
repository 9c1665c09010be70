"""What predict.py needs beside to find entities: words of texts, windows of long ones, and tags joined to entities."""

import unicodedata
from itertools import groupby
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


def kind(c):
    category = unicodedata.category(c)
    if category[0] in "LNM" or c in "\u200c\u200d_":
        wide = "\u3040" <= c <= "\u30ff" or "\u3400" <= c <= "\u9fff" or c >= "\U00020000"
        return "mark" if wide and category[0] == "L" else "word"
    return "space" if category[0] in "ZC" or c.isspace() else "mark"


def split_words(text):
    """Words and where they start: runs of letters and digits, and single marks. A list of words is taken as it is."""
    if not isinstance(text, str):
        return list(text), np.cumsum([0, *(len(word) + 1 for word in text)])[:-1].tolist()
    words, starts = [], []
    for name, run in groupby(range(len(text)), key=lambda i: kind(text[i])):
        places = list(run)
        for part in [places] if name == "word" else [[i] for i in places] if name == "mark" else []:
            words.append(text[part[0] : part[-1] + 1])
            starts.append(part[0])
    return words, starts


def first_pieces(windows, words, stride):
    """(window, place) of the first piece of every word, in the window that shows most on its narrower side."""
    best, before = {}, None
    for number, ids in enumerate(windows):
        content = [place for place, word in enumerate(ids) if word is not None]
        for k, place in enumerate(content):
            if ids[place] != before:
                sides = (k if number else np.inf, len(content) - 1 - k if number < len(windows) - 1 else np.inf)
                if min(sides) > best.get(ids[place], (-1,))[0]:
                    best[ids[place]] = (min(sides), number, place)
            before = ids[place]
        at = len(content) - stride - 1
        before = ids[content[at]] if number < len(windows) - 1 and at >= 0 else None
    return [best[word][1:] if word in best else None for word in range(words)]


def by_row(inputs, graph, names):
    """For every text its words, where they start, and the probability of every tag, [words, tags]."""
    tokenizer = Tokenizer.from_file(str(Path(__file__).resolve().with_name("tokenizer.json")))
    stride, width = (tokenizer.truncation or {}).get("stride", 0), len(names)
    for text in inputs:
        words, starts = split_words(text)
        encoding = tokenizer.encode(words, is_pretokenized=True)
        windows = [encoding, *encoding.overflowing]
        answers = []
        for window in windows:  # each runs on its own, so that none is padded
            ids = np.array([window.ids], dtype=np.int64)
            feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            answers.append(graph.run(["probabilities"], feed)[0][0])
        places = first_pieces([window.word_ids for window in windows], len(words), stride)
        even = np.full(width, 1 / width)  # the tokenizer leaves nothing of such a word
        rows = [even if place is None else answers[place[0]][place[1]] for place in places]
        yield words, starts, np.array(rows).reshape(-1, width)


def entities(words, starts, rows, names):
    """(type, score, start, end, text): words of one type that follow each other, up to the next B-."""
    found, before = [], None
    for word, start, row in zip(words, starts, rows, strict=True):
        tag = names[row.argmax()] if np.ptp(row) > 0 or "O" not in names else "O"
        name = tag[2:] if tag[:2] in ("B-", "I-") else tag
        if tag == "O":
            before = None
            continue
        if name == before and not tag.startswith("B-"):
            old, scores, begin, end, text = found.pop()
            found.append((old, [*scores, row.max()], begin, start + len(word), text + " " * (start - end) + word))
        else:
            found.append((name, [row.max()], start, start + len(word), word))
        before = name
    return [(name, float(np.mean(scores)), *rest) for name, scores, *rest in found]


def lines(inputs, graph, names):
    for number, row in enumerate(by_row(inputs, graph, names)):
        for name, score, start, end, text in entities(*row, names):
            yield f"{number}\t{name}\t{score:.4f}\t{start}\t{end}\t{text}"
