"""The tab where a file, or many images, are classified at once."""

import secrets
from pathlib import Path
from typing import Any

import gradio as gr

from hftl.demo.batch import (
    MAX_IMAGES,
    MAX_TEXTS,
    TABLE_SUFFIXES,
    BatchResult,
    classify_images,
    classify_table,
    text_columns,
    write_csv,
)
from hftl.demo.checks import IMAGE_SUFFIXES
from hftl.demo.looks import render
from hftl.demo.said import told
from hftl.demo.served import Served
from hftl.demo.uploads import refuse_addresses
from hftl.errors import DataError


_PREVIEW = 10
_OWN: dict[str, Any] = {"api_visibility": "private"}


def batch_tab(served: Served, folder: Path) -> None:
    """Lay out the tab and join its events, inside `gr.Blocks`. CSV files are written under `folder`."""
    text = served.reads_text
    limit = f"{MAX_TEXTS:,} rows" if text else f"{MAX_IMAGES:,} images"
    what = "A table (CSV, TSV, JSON, JSONL, parquet) or a .txt file with a text a line" if text else "Images"
    gr.HTML(
        render("said.html", look="hint", text=f"{what}, up to {limit} at once. A CSV comes out."),
        apply_default_css=False,
    )
    files = _file_box(served)
    column = gr.Dropdown([], label="Column with the text", visible=False, elem_id="batch-column", interactive=True)
    run = gr.Button("Classify all", variant="primary", elem_id="batch-run")
    output = gr.File(label="Answers as CSV", visible=False, interactive=False, elem_id="batch-output")
    summary = gr.HTML("", apply_default_css=False, elem_id="batch-summary", min_height=20)

    def look(path: str | None) -> Any:
        columns, found = text_columns(Path(path)) if path else ([], None)
        return gr.Dropdown(choices=columns, value=found, visible=bool(columns))

    def classify(chosen: Any, name: Any, progress: Any = gr.Progress()) -> tuple[str, Any]:  # noqa: B008 Gradio's way
        if not chosen:
            raise DataError("Choose a file first." if text else "Choose images first.")
        progress(0, desc="Reading")

        def step(done: int, total: int) -> None:
            progress((done, total), desc="Classifying", unit="texts" if text else "images")

        if text:
            result = classify_table(served, Path(chosen), str(name) if name else None, step)
        else:
            result = classify_images(served, [Path(one) for one in chosen], step)
        path = folder / secrets.token_hex(16) / "answers.csv"
        path.parent.mkdir(parents=True)
        write_csv(path, result)
        return _summary(served, result), gr.File(value=str(path), visible=True)

    def forget() -> tuple[Any, str, Any]:
        return gr.Dropdown(choices=[], value=None, visible=False), "", gr.File(value=None, visible=False)

    if text:
        files.upload(told(look), files, column, **_OWN)
    files.clear(forget, None, [column, summary, output], **_OWN)
    run.click(
        told(classify), [files, column], [summary, output], show_progress_on=summary, concurrency_id="batches",
        concurrency_limit=1, **_OWN,
    )  # fmt: skip


def _file_box(served: Served) -> Any:
    return refuse_addresses(
        gr.File(
            label="File" if served.reads_text else "Images",
            file_count="single" if served.reads_text else "multiple",
            file_types=list(TABLE_SUFFIXES if served.reads_text else IMAGE_SUFFIXES),
            elem_id="batch-files",
            height=160,
        )
    )


def _summary(served: Served, result: BatchResult) -> str:
    counts = result.counts
    highest = max((count for _, count in counts), default=1)
    done = sum(count for _, count in counts)
    return render(
        "batch.html",
        done=done,
        thing="text" if served.reads_text else "image",
        unsure=None if served.threshold is None else sum(bool(row.not_sure) for row in result.rows),
        notes=result.notes,
        counts=[(label, count, count / highest) for label, count in counts],
        first=result.rows[:_PREVIEW],
    )
