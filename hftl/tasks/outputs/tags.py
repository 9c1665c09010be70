"""A tag for every word: names of entities as B-, I- and O, read from any of their schemes; entities are what counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hftl.data.columns import TAG_NAMES
from hftl.data.words import text_of
from hftl.evaluation.neighbours import nearest_neighbours
from hftl.evaluation.row_scores import row_scores
from hftl.evaluation.span_scores import (
    COMPARED,
    SCORES,
    entities,
    read_tags,
    span_statistics,
    type_confusion,
)
from hftl.tasks.outputs.classes import CLASSES, cross_entropy
from hftl.tasks.outputs.names import check_names, index, late, recognised_by
from hftl.tasks.outputs.tag_markup import marked_up, typed_tags
from hftl.tasks.outputs.tag_schemes import OUTSIDE, check_lengths, tag_ids, tag_names, tags_of
from hftl.tasks.task import NOT_ASKED, Answer, Output, Ragged, Summed


NOTHING = "no entity"
# Words x tags from which the probe is near its optimum instead of at it. On one thread Newton's steps took 4.6 s of 2,300
# words and 9 tags, and 108 s of 27,000 words and 23 tags, where L-BFGS took 0.5 and some seconds.
_LARGE = 10_000
_PROBED = 30_000  # words that the probe learns from: more tell a linear head little
_NEAR = 5_000  # words among which neighbours are looked for, each compared with every word of the test


@dataclass(frozen=True, repr=False)
class Entities(Answer):
    """The entities of one row; the confidence is that of the least sure word, the detail tag and probability of each."""

    def __repr__(self) -> str:
        return f"Entities({self.value!r})"

    @property
    def entities(self) -> list[dict[str, Any]]:
        """Each with start and end, label, score and, where the words are known, text."""
        return list(self.value)

    @property
    def tags(self) -> list[str]:
        """The tag of every word."""
        return list(self.detail["tags"])


def rarest(ids: Ragged, names: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return the rarest tag of each row as its stratum, so that rare types are in every split."""
    counts = np.bincount(ids.values, minlength=len(names))
    strata = [int(row[np.argmin(counts[row])]) if len(row) else 0 for row in ids]
    return np.array(strata, dtype=np.int64), len(names)


def word_loss(logits: Tensor, labels: Tensor, weights: Any = None, smoothing: float = 0.0) -> Summed:
    """Return the sum over the words that are asked for of [b, places, K] logits, and how many these are.

    Stock token heads take the mean over a batch, which is wrong under accumulation (FACTS.md, trap 16).
    """
    asked = labels != NOT_ASKED
    return cross_entropy(logits[asked], labels[asked], weights, smoothing)


def decode(outputs: Any) -> Any:
    """Return the most probable tag of every place, [..., K] or by row."""
    if isinstance(outputs, Ragged):
        return Ragged(outputs.values.argmax(-1), outputs.starts)
    return outputs.argmax(-1)


def answers(outputs: Ragged, names: Sequence[str]) -> list[Entities]:
    """Return the entities of every row of logits; start and end count words until `located` knows the characters."""
    if not len(outputs):
        return []
    probabilities = torch.from_numpy(np.ascontiguousarray(outputs.values)).double().softmax(-1).numpy()
    silent = ~outputs.values.any(axis=-1)  # the tokenizer left nothing of such a word
    best = np.where(silent, names.index(OUTSIDE) if OUTSIDE in names else 0, probabilities.argmax(-1))
    scores = Ragged(np.where(silent, 1.0, probabilities.max(-1, initial=0.0)), outputs.starts)
    rows = []
    for ids, score in zip(Ragged(best, outputs.starts), scores, strict=True):
        tags = [names[i] for i in ids]
        found = [
            {"start": first, "end": last + 1, "label": kind, "score": float(score[first : last + 1].mean())}
            for kind, first, last in entities(tags)
        ]  # the mean, as pipeline's "simple" takes it
        rows.append(Entities(found, float(score.min(initial=1.0)), {"tags": tags, "scores": score.tolist()}))
    return rows


def located(answer: Entities, row: dict[str, Any]) -> Entities:
    """Return the answer with entities that start and end at characters, and their text.

    `row` has the words and where they start in the text.
    """
    words, starts = row["words"], row["starts"]
    text, found = text_of(words, starts), []
    for entity in answer.value:
        last = entity["end"] - 1
        begin, end = starts[entity["start"]], starts[last] + len(words[last])
        place = {"start": begin, "end": end, "text": text[begin:end]}
        found.append({**place, "label": entity["label"], "score": entity["score"]})
    return replace(answer, value=found, detail={**answer.detail, "text": text})


def drawn(answer: Entities) -> dict[str, Any]:
    """Return the text with its entities, as gradio's HighlightedText takes them."""
    entities = [{"entity": e["label"], **{k: e[k] for k in ("start", "end", "score")}} for e in answer.value]
    return {"text": answer.detail["text"], "entities": entities}


def errors(outputs: Ragged, tags: Ragged, ids: Ragged) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return how many tags of each row are wrong, that again, and the summed loss of its words: see `Output.errors`."""
    losses = row_scores(outputs.values, ids.values).loss
    row = np.repeat(np.arange(len(ids)), ids.lengths)
    wrong = np.bincount(row, tags.values != ids.values, minlength=len(ids)).astype(np.int64)
    return wrong, {"wrong": wrong, "loss": np.bincount(row, losses, minlength=len(ids))}


def _some(
    features: dict[str, Ragged], ids: Ragged, seed: int, most: int = _PROBED
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return features, tags and sentences of at most so many words, drawn from all; each tag keeps some of its words."""
    rows = np.arange(len(ids.values))
    if len(rows) > most:
        order = np.random.default_rng(seed).permutation(len(rows))
        counts = np.bincount(ids.values)
        first = np.array([np.flatnonzero(ids.values[order] == tag)[:2] for tag in np.flatnonzero(counts >= 2)]).ravel()
        kept = np.concatenate([first, np.setdiff1d(np.arange(len(order)), first)])[:most]
        rows = np.sort(order[kept])
    sentences = np.repeat(np.arange(len(ids)), ids.lengths)[rows]
    return {name: np.asarray(array.values[rows]) for name, array in features.items()}, ids.values[rows], sentences


def _probe(
    features: dict[str, Ragged], ids: Ragged, width: int, pooling: str, seed: int, *more: Any, **named: Any
) -> Any:
    words, tags, sentences = _some(features, ids, seed)
    fit = late("logistic", "fit_probe")
    return fit(words, tags, width, pooling, seed, *more, large=_LARGE, groups=sentences, **named)


def _neighbours(train: Ragged, ids: Ragged, test: Ragged) -> Ragged:
    words, tags, _ = _some({"": train}, ids, 0, _NEAR)
    return Ragged(nearest_neighbours(words[""], tags, np.asarray(test.values)), test.starts)


def _plain(kinds: Sequence[str], train: Any, ids: Ragged, test: Any) -> list[Any]:
    from hftl.evaluation.word_tags import most_frequent_tags, outside_everywhere  # late: scikit-learn takes a second

    known = [*ids]
    everywhere = outside_everywhere(known, test)
    if everywhere.cv_accuracy is not None:  # most words are right, but it finds no entity, and these are what counts
        everywhere = replace(everywhere, cv_accuracy=0.0)
    baselines = [everywhere, *(most_frequent_tags(train, known, test) for _ in kinds)]
    return [replace(baseline, predictions=Ragged.of(baseline.predictions)) for baseline in baselines]


def flatten(answer: Any, names: Sequence[str], row: Sequence[str]) -> np.ndarray | None:
    """Return the probability of the first piece's tag for every word of `row`, [words, K]; None where it was cut."""
    pieces = answer[0] if answer and isinstance(answer[0], list) else answer
    matrix: np.ndarray = np.zeros((len(row), len(names)))
    places, start, at = index(names), 0, 0
    for number, word in enumerate(row):
        end = start + len(word)
        while at < len(pieces) and pieces[at]["start"] < start:
            at += 1
        if at == len(pieces) or pieces[at]["start"] >= max(end, start + 1):
            return None
        matrix[number, places[pieces[at]["entity"]]] = pieces[at]["score"]
        start = end + 1
    return matrix


def flat(answer: Entities, names: Sequence[str]) -> np.ndarray:
    """Return the probability of each word's tag, [words, K]."""
    matrix, places = np.zeros((len(answer.tags), len(names))), index(names)
    matrix[np.arange(len(matrix)), [places[tag] for tag in answer.tags]] = answer.detail["scores"]
    return matrix


def mistaken_types(tags: Ragged, ids: Ragged, names: Sequence[str]) -> tuple[list[str], list[tuple[int, int, int]]]:
    """Return the types and "no entity", and how many entities of each are taken for each."""
    return [*read_tags(names).types, NOTHING], type_confusion(tags, ids, names)


def marked(text: str, ids: Sequence[int], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the words of a row in pieces, each with the type of the entity that it is, or "".

    `text` is the row as it is shown, its words apart by spaces and perhaps cut at the end.
    """
    words = text.split(" ")
    pieces, at = [], 0
    for kind, first, last in entities([names[i] for i in ids][: len(words)]):
        pieces += [(" ".join(words[at:first]), ""), (" ".join(words[first : last + 1]), kind)]
        at = last + 1
    return [piece for piece in (*pieces, (" ".join(words[at:]), "")) if piece[0]]


def in_words(ids: Sequence[int], names: Sequence[str]) -> str:
    """Return the entities of one row as "location (words 15 to 17), person (word 3)"."""
    parts = []
    for kind, first, last in entities([names[i] for i in ids]):
        parts.append(f"{kind} (word{f's {first + 1} to {last + 1}' if last > first else f' {first + 1}'})")
    return ", ".join(parts) or "no entity"


TAGS = Output(
    problem_type="token_classification",
    usual=TAG_NAMES,
    read=tags_of,
    names=tag_names,
    encode=tag_ids,
    recognise=recognised_by(tag_ids, "tags"),
    gather=Ragged.of,
    strata=rarest,
    counts=lambda ids, names: np.bincount(ids.values, minlength=len(names)),
    loss=word_loss,
    decode=decode,
    answers=answers,
    check=check_names,
    statistics=span_statistics,
    scores=SCORES,
    compared=COMPARED,
    best="f1",
    lines=lambda names: read_tags(names).types,
    units=lambda outputs, ids: (outputs.values, ids.values),
    errors=errors,
    probe=_probe,
    neighbours=_neighbours,
    columns=lambda ids, names, _=None: np.eye(len(names))[ids.values],
    plain=_plain,
    parts=("forgetting", "calibration", "slices", "type_confusion", "worst_rows", "doctor"),
    ask=lambda names: {"ignore_labels": [], "is_split_into_words": True},
    flatten=flatten,
    flat=flat,
    cells=lambda answer: {"prediction": answer.value, "probability": answer.confidence},
    widget="HighlightedText",
    draw=lambda answer, row, config: drawn(answer),
    tell=lambda answer: "" if answer.value else "No entity was found",
    explained=False,
    words=CLASSES.words
    | {
        "does": "finds entities in {row}: it gives every word one of {n} tags",
        "learned": "{n} tags",
        "always": "It knows its {n} tags and no others: an entity of another type is missed, or taken for one of these.",
        "use": "For finding such entities in {rows} like those it was trained on",
        "name": "type of entity",
        "names": "types of entities",
        "units": "entities",
        "same": "tags, probabilities apart by at most {}",
        "given": "tag",
        "per": " per tag",
        "guess": "the most frequent tag",
        "worst": "The rows with most wrong tags, of equals those of the highest loss.",
        "ask": "Find entities",
        "typed": "Mark the entities in the row as [Ada Lovelace](person), with the types that the data have.",
        "call": ', aggregation_strategy="simple"',
        "code": "Each entity has a type, a score and its place in the text. Tags were learnt at the first piece of every "
        'word: `aggregation_strategy="first"` takes that tag for all of a word. `pipeline` cuts what is longer than the '
        "model reads, unless it is given a `stride`, such as `stride=64`.",
    },
    say=in_words,
    typed=typed_tags,
    as_typed=marked_up,
    mark=marked,
    mistaken=mistaken_types,
    fits=check_lengths,
    located=located,
)
