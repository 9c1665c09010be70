"""The contract of a task: Task = Inputs x Output. Values and functions, no subclasses.

`Inputs` says how a row comes in, `Output` what is answered about it; each is told whole in one file. What differs
between tasks is a field of these, so that nothing outside of `hftl/tasks` asks which task it has.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from datasets import Dataset

from hftl.data.columns import LABEL_NAMES
from hftl.evaluation.bootstrap import MadeUp, Scores
from hftl.evaluation.scale import Scale, score_name
from hftl.tasks.ragged import Made as Made
from hftl.tasks.ragged import Ragged as Ragged


NOT_ASKED = -100  # in place of a target: no answer is asked for there (transformers' own sign)
Function = Callable[..., Any]  # what it takes and returns is said beside each field
Read = tuple[Dataset, np.ndarray, dict[int, str]]  # what `Inputs.read` returns: why a row is left out by its number
Summed = tuple[torch.Tensor, int]  # of a loss: its sum, and over how many
Faults = Literal["skip", "refuse", "keep"]  # what `Inputs.read` does about rows with no usable input


@dataclass(frozen=True, eq=False)
class Encoded(torch.utils.data.Dataset):
    """Rows as a model reads them, with their targets.

    Where the places of a row are answered, a long row may be read in several windows: `arrays` and `units` are then by
    window, `rows` says of which row each is, and `targets` stay by row. A row's places are those of its windows, one
    after the other.
    """

    arrays: dict[str, Any]  # array, Ragged or Made: such as "input_ids", or "pixels" [n, channels, height, width]
    targets: Any  # [n, ...], by `Output.encode`; a Ragged where the places of a row are answered
    units: Ragged | None = None  # places that are answered, such as a word's first piece, -1: none; None: the row
    augment: bool = False
    rows: np.ndarray | None = None  # of the windows, where there are such places
    keep: Function | None = None  # `Output.keep`, or `Output.show` of rows without targets
    window: int | None = None  # `Inputs.window`: rows are then of different sizes

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = {name: array[index] for name, array in self.arrays.items()}
        if self.window is not None and self.augment:  # drawn row by row: alike on any number of processes
            row["place"] = torch.rand(2)
        if self.units is None:
            return {**row, "labels": self.targets[index], "augment": self.augment}
        labels = self.targets.values[self.units.starts[index] : self.units.starts[index + 1]]
        return {**row, "units": self.units[index], "labels": labels, "augment": self.augment}

    @property
    def count(self) -> int:
        """How many answers are asked for: of rows, or of their units."""
        return len(self) if self.units is None else len(self.units.values)

    @property
    def starts(self) -> np.ndarray | None:
        """Where each row begins among the tokens of all, [n + 1]; None for rows of one shape."""
        return next((array.starts for array in self.arrays.values() if isinstance(array, Ragged)), None)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, [n]; 1 for rows of one shape."""
        return np.ones(len(self), dtype=np.int64) if self.starts is None else np.diff(self.starts)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Encoded":
        """Return the rows numbered `rows`, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        windows: Any = index
        units: Any = None
        owners = None
        if self.units is not None:
            first, end = (np.searchsorted(self.rows, index, side) for side in ("left", "right"))  # type: ignore[call-overload]
            counts = end - first
            windows = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            units, owners = self.units[windows], np.repeat(np.arange(len(index)), counts)
        arrays = {name: array[windows] for name, array in self.arrays.items()}
        return replace(self, arrays=arrays, targets=self.targets[index], units=units, rows=owners)

    def once(self) -> "Encoded":
        """Return the same rows for a pass that reads each once, so that those which are made are not kept."""

        def let_go(array: Any) -> Any:
            return array.once() if isinstance(array, Made) else array

        arrays = {name: let_go(array) for name, array in self.arrays.items()}
        return replace(self, arrays=arrays, targets=let_go(self.targets))

    def items(self, numbers: Sequence[int] | np.ndarray) -> "Encoded":
        """Return the items of these numbers, each as a row of its own, also where it is a window of one."""
        if self.units is None:
            return self.take(numbers)
        targets = Ragged(self.targets.values, self.units.starts)
        return Encoded(self.arrays, targets, self.units, self.augment, np.arange(len(self))).take(numbers)

    def by_row(self, values: np.ndarray) -> Any:
        """Return what was found for every unit, [units, ...], by row; for rows without units it is by row already."""
        return values if self.units is None else Ragged(values, self.targets.starts)

    def by_window(self, values: Any) -> Any:
        """Return what `by_row` returned as the items of these rows have it."""
        return values if self.units is None else Ragged(values.values, self.units.starts)

    def places(self, items: Sequence[int]) -> Any:
        """Return where in an array by unit the answers about some items stand, in order: without units, the items."""
        if self.units is None:
            return items
        index = np.asarray(items, dtype=np.int64)
        found = Ragged(np.arange(len(self.units.values)), self.units.starts)[index].values  # type: ignore[union-attr]
        return found[self.units.values[found] >= 0]

    def unpadded(self, answers: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
        """Return the answers [n, ...] of an evaluation and the targets, by row; of units padded to [n, places]."""
        if self.units is None:
            return answers, labels
        values = np.zeros(len(self.units.values), dtype=answers.dtype)  # a word without a place is answered 0
        values[self.units.values >= 0] = answers[labels != NOT_ASKED]
        return self.by_row(values), self.targets

    def fingerprint(self) -> str:
        """Hash of every value of every row, in order; targets do not count."""
        digest = hashlib.sha256()
        more: dict[str, Any] = {} if self.units is None else {"units": self.units, "rows": self.rows}
        arrays: dict[str, Any] = {**self.arrays, **more}
        for name, array in arrays.items():
            if isinstance(array, Made):
                for one in array.digests():
                    digest.update(one)
                continue
            for part in (array.starts, array.values) if isinstance(array, Ragged) else (array,):
                digest.update(f"{name} {part.dtype} {part.shape}".encode())
                rows = 2**20 if part.ndim == 1 else 256  # at once, not all: a copy would double the memory
                for start in range(0, len(part), rows):
                    digest.update(np.ascontiguousarray(part[start : start + rows]).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a model answers about one row."""

    value: Any
    confidence: float
    detail: Any  # such as the probability of every label
    not_sure: bool | None = None  # is the confidence below the run's threshold? None where it has none


class Fitted(NamedTuple):
    """What fitting a processor to data told."""

    notes: list[str]
    cut: int  # rows that are longer than the model reads


Finish = Callable[[list[np.ndarray]], Fitted]  # lengths of the rows of each dataset, once they are encoded


@dataclass(frozen=True)
class Inputs:
    """How a row comes in."""

    kind: str  # what pages and errors call a row: "text", "image"
    noun: str  # the same with its article
    columns: tuple[str, ...]  # of the tables that `read` makes, in the order in which the processor takes them
    flags: tuple[str, ...]  # by which the user names the source's column for each of them
    processor: str  # transformers' Auto class, by name: listing tasks imports nothing heavy
    argument: str  # what `pipeline` calls the processor
    # (table, label column or None, columns that the user named or None) -> a column for each of `columns`, by name or
    # type; None where there are none.
    find: Function
    # (table, columns, base, where, faults, refuse_numbers) -> Dataset, its row numbers, and of each row that was left out,
    # which has no usable input, why. "refuse" raises `DataError` for a broken image, "keep" returns every row as it is.
    read: Function
    table: Function  # rows as `predict` takes them -> Dataset; raises `DataError`
    check: Function  # (model, processor, name): raises `ModelError` where the two do not go together
    settle: Function  # (model, processor, name) -> notes; what padding would change about the answers
    fit: Function  # (model, processor, datasets, ModelConfig) -> Finish; sets the length or size in place
    encode: Function  # (Dataset, processor) -> arrays of `Encoded`
    collate: Function  # (processor, flip, augment) -> function: items -> batch of tensors, without targets
    smallest: Function  # (model, processor) -> a smallest batch, to trace the modules
    describe: Function  # (Splits, processor, lengths of train and validation, are some cut) -> facts for `hftl plan`
    poolings: tuple[str, ...]  # features that a row has: "native", and "mean" over its tokens
    key: Function  # value of a row (see `values`) -> bytes, equal for the same one, or None: copies and leaks
    groups: Function  # Dataset -> [(name, value of each row, unit or None)], to score slices of rows
    row: Function  # value of a row -> what `predict` and `pipeline` take: a text, two in a dict, a picture
    show: Function  # value of a row -> a text or a picture for people
    raw: Function | None  # Encoded -> what models without pretraining read, or None; None: the column itself
    features: tuple[str, ...]  # kinds of such models, by their names in `hftl.evaluation.saved_baseline`
    example: Any  # of a row as `predict` takes it, in the code of a card
    sample: str  # the packaged retention set
    box: str  # gradio component that takes a row, by name
    # (rows as `predict` takes them, processor) -> of such rows what plain `pipeline` reads as hftl does; None: all
    alike: Function | None = None
    # processor -> the side of the windows in which an image of any size is read; None where it is read as a whole
    window: Function | None = None
    overlap: Function | None = None  # processor -> tokens that windows of a long row share; None: rows are cut
    derived: tuple[str, ...] = ()  # columns that `read` makes beside those, for `Output.located`
    padded: bool = False  # are rows of different lengths, so that a batch is padded to the longest?
    augmentable: bool = False
    lenient: bool = False  # are rows without a usable input left out unasked, unless with --strict?
    thumbs: Function | None = None  # Encoded -> grey [n, side, side], where augmenting may mirror a row
    caveat: str = ""  # what the limits of a model say was not recorded of such rows; "": nothing

    @property
    def called(self) -> str:
        """The noun of its row alone: "text", "pair", "image"."""
        return self.noun.split()[1]

    def values(self, table: Dataset) -> list[Any]:
        """Return what each row of the table holds: the value of its one column, or a tuple of those of several."""
        columns = [table[name][:] for name in self.columns]
        return list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is answered about a row, and how that is learned."""

    problem_type: str  # as transformers calls it, and `--problem_type`
    link: Literal["softmax", "sigmoid", "none"] = "softmax"  # from what the model puts out to probabilities
    usual: tuple[str, ...] = LABEL_NAMES  # names of the target's column in the wild
    read: Function  # (table, column, where, known names) -> a value per row, None where there is none
    names: Function  # (values by split, feature, column) -> names of what can be answered, notes
    encode: Function  # (values, names) -> targets [n, ...]
    recognise: Function  # (values, names, where, column) -> the same for a model's names; raises `DataError`
    gather: Function  # targets of single rows, as a table's column "label" holds them -> targets [n, ...]
    strata: Function | None = None  # (targets, names) -> ids [n] of the strata of a cut, how many; None: none
    single: bool = False  # has every row one class? It is its target and its stratum
    counts: Function  # (targets, names) -> how many rows speak for each name, [k]; of a number all of them, [1]
    loss: Function  # (outputs, targets, weights, smoothing) -> (sum, count): exact under accumulation
    # What stands for "outputs" below where those of a model would not fit in memory, such as a map of classes for every
    # row: (what it puts out for a row, that row's target) -> [k], its statistics and what else is wanted. None: all of it.
    keep: Function | None = None
    show: Function | None = None  # the same for a row without a target: (what it puts out, `blank`) -> for `answers`
    blank: Function | None = None  # Dataset of rows without targets -> placeholders for them
    decode: Function  # outputs [n, ...], an array or a tensor -> what is answered, in the form of targets
    answers: Function  # (outputs [n, ...], names) -> an `Answer` per row
    check: Function  # (config of a model, its name): raises `ModelError` for one that answers otherwise
    statistics: Function  # (answers, targets, names) -> sparse [n, s] that ADD UP over rows
    scores: Scores  # name -> function of sums [b, s] -> [b]
    compared: tuple[str, ...]  # the scores that have an interval and a verdict, the headline first
    best: str  # the score that early stopping follows
    # Scores that are a share of right rows -> (answers, targets) -> [n] bool.
    right: dict[str, Function] = field(default_factory=dict)
    made_up: MadeUp | None = None  # the row that a paired interval draws beside the others, for such scores
    # names -> what a table of the report has a line for: the statistics begin with how often each is true, predicted and
    # both at once. None: there is no such table.
    lines: Function | None = None
    # (outputs, targets) -> logits [u, k] and class ids [u] of every decision: calibration, log loss; None: no
    # probability is answered.
    units: Function | None = None
    # (outputs, answers, targets) -> how much of each row is wrong [n], 0: nothing; and columns [n] of the worst rows, with
    # its "loss".
    errors: Function
    coded: Function = lambda target: np.asarray(target).tolist()  # the target of a row or an answer -> it in JSON
    probe: Any  # a closed-form head on frozen features, see `fit_probe` of `hftl.evaluation.logistic`
    # Targets [n, ...] -> how alike the rows are, [n, n] from 0 to 1; None: rows are not compared by them.
    alike: Function | None = None
    # (train features, targets, test features) -> answers of the most similar rows; None: they are not looked for
    neighbours: Any = None
    # (targets, names, features) -> numbers [units, k]: what a linear model of all units is regressed on; None: nothing
    columns: Any = None
    plain: Function  # (kinds of features, train rows, targets, test rows) -> baselines without pretraining
    parts: tuple[str, ...]  # of the evidence, those that mean something here, in the order of the page
    ask: Function  # names -> what `pipeline` is given with a row to answer with all of them: {"top_k": 5}, else {}
    # (what `pipeline` answers to a row, when asked so, names, row) -> [k], or [words, k], to hold beside ours; None where
    # it did not read all of the row.
    flatten: Function
    flat: Function  # (`Answer`, names) -> the same of ours
    cells: Function  # `Answer` -> what a table or JSON holds of it, by column: "prediction" first
    widget: str  # gradio component that shows an answer, by name
    draw: Function  # (`Answer`, row as the model reads it, config of the model) -> the value of that component
    # What a person reads of it; {row}: "a text", {rows}: "texts", {n}: count of names. "does", "learned", "always" and
    # "use" are of the model; "name" and "names": what can be answered, and "units" what is counted of each; "same": what
    # two models have in common that answer alike, and {}: by how much they differ; "given": what a training row has; "per": what follows a count of rows;
    # "guess": what a model answers that learned nothing of the inputs; "worst": the rows that are most wrong; "loss": how wrong a row is;
    # "ask": to ask for an answer; "typed": how one is typed; "for", "against": what parts of a row do; "call", "code": what `pipeline` is called with in the code of a card, and what it gives.
    words: dict[str, str]
    say: Function  # (the target of a row, also as `coded`, names) -> it in words
    # (what a person typed, all names that the data have, value of the row) -> what `read` would give; raises `DataError`. And
    # (the target of a row, also as `coded`, names, value of the row) -> such a text; of a mask what is typed is the path of a file.
    typed: Function
    as_typed: Function = lambda target, names, row: ""
    picture: Function | None = None  # (`Answer`, config of the model) -> it as a picture, where it is one
    over: Function | None = None  # (image of the row, `Answer`, config of the model) -> the image with it over it
    colours: Function | None = None  # (config of the model, how many) -> [red, green, blue] of each class, of such
    tell: Function = lambda answer: ""  # `Answer` -> it in a sentence, where the component does not say it; else ""
    explained: bool = True  # can `hftl demo` show what in a row speaks for an answer?
    beside: Function | None = None  # (outputs, targets) -> `Interval`s of scores that are no function of sums, by name
    smaller: tuple[str, ...] = ()  # scores of which less is better
    figures: tuple[str, ...] = ()  # scores that are no shares: written as numbers, not as percentages
    # (validation outputs, targets, names, what the user asked) -> fields of the model's config by which it answers.
    settle: Function | None = None
    configured: Function | None = None  # a model's config -> this output, answering by such fields of it
    mark: Function | None = None  # (text of a row, what is true or answered, names) -> its pieces: (text, name or "")
    # (answers, targets, names) -> what is taken for what: names, cells (true, predicted, count)
    mistaken: Function | None = None
    fits: Function | None = None  # (Dataset of inputs, values) -> position -> why it cannot be used
    located: Function | None = None  # (`Answer`, row of a table) -> the `Answer` with where in the row things are
    # (`DataConfig`, names of classes beside the data) -> this output as flags and data have it; None: it is one for all.
    asked: Function | None = None
    # (table, column, images, where) -> `MaskFacts` of every row for `hftl doctor`, and the same of stored targets.
    examine: Function | None = None
    known_facts: Function | None = None
    extra: Function | None = None  # lines of the table of names -> the same with more figures
    scale: Function | None = None  # train targets -> centre and deviation, by which they are standardised in training

    @property
    def headline(self) -> str:
        """The score that the report begins with and the verdict is about."""
        return self.compared[0]

    def chance(self, names: Sequence[str]) -> float:
        """Return the loss of a guess: far above it, training has diverged. Numbers are standardised."""
        return {"softmax": math.log(max(2, len(names))), "sigmoid": math.log(2), "none": 1.0}[self.link]

    def written(self, score: str | None = None) -> Scale:
        """Return how a score is written, by default the headline."""
        name = score or self.headline
        return Scale(score_name(name), name not in self.figures, name in self.smaller, name in self.right)

    def answering_by(self, fields: Any) -> "Output":
        """Return the output whose answers follow the fields of a model's config."""
        return self if self.configured is None else self.configured(fields)


@dataclass(frozen=True)
class Task:
    """What is learned and how it is scored; `name` is the Hub's pipeline tag."""

    name: str
    summary: str
    inputs: Inputs
    output: Output
    auto_model: str  # name of the transformers Auto class
    default_model: str
    default_method: str = "auto"
    pipeline_options: dict[str, Any] = field(default_factory=dict)

    def answering_by(self, config: Any) -> "Task":
        """Return the task whose answers follow the fields of a model's config, such as its thresholds."""
        return replace(self, output=self.output.answering_by(config))

    def encode(self, dataset: Dataset, processor: Any) -> Encoded:
        """Return the rows as the model reads them; targets are 0 where the table has no column "label"."""
        arrays = dict(self.inputs.encode(dataset, processor))
        units, rows = arrays.pop("units", None), arrays.pop("rows", None)
        targets: Any = np.zeros(len(dataset), dtype=np.int64)
        known = "label" in dataset.column_names
        if known:
            targets = self.output.gather(dataset["label"][:])
        elif units is not None:
            targets = Ragged.of([[0] * len(words) for words in dataset[self.inputs.columns[0]][:]])
        elif self.output.blank is not None:
            targets = self.output.blank(dataset)
        window = None if self.inputs.window is None else self.inputs.window(processor)
        keep = self.output.keep if known else self.output.show
        return Encoded(arrays, targets, units, rows=rows, keep=keep, window=window)

    def collator(self, processor: Any, flip: bool = True, augment: str = "light") -> Function:
        """Return a function that makes a batch of a list of items, those of the train split augmented by a preset.

        Raises `ConfigError` for a preset that such inputs do not have.
        """
        inputs = self.inputs.collate(processor, flip, augment)

        def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            batch, labels = inputs(items), [item["labels"] for item in items]
            if "labels" in batch:  # they moved with the inputs
                return batch
            if "units" not in items[0]:
                targets = torch.as_tensor(np.asarray(labels))
                return {**batch, "labels": targets.float() if targets.is_floating_point() else targets}
            return {**batch, "labels": _at_places(labels, [item["units"] for item in items], batch["attention_mask"])}

        return collate


def _at_places(labels: list[np.ndarray], places: list[np.ndarray], mask: torch.Tensor) -> torch.Tensor:
    """Return the labels at the places of their units, [b, tokens] like the mask of padding, `NOT_ASKED` elsewhere."""
    spread = torch.full(mask.shape, NOT_ASKED, dtype=torch.int64)
    begins = mask.argmax(dim=1).tolist()  # not 0 where padding stands on the left
    for row, (ids, at, begin) in enumerate(zip(labels, places, begins, strict=True)):
        asked = at >= 0
        spread[row, begin + torch.as_tensor(at[asked])] = torch.as_tensor(ids[asked], dtype=torch.int64)
    return spread
