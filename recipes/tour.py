"""The main job on real weights and real data with no network: `make run`.

Adapts all-MiniLM-L6-v2 to Wikipedia topics (2,000 rows) and EfficientNet-Lite0 to handwritten digits, each by probe and
by full fine-tuning, and all-MiniLM-L6-v2 to what Wikipedia articles are about (named entities), beside baselines without
pretraining on the same split. Measured results: README.md.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftl.errors import HftlError
from hftl.report.table import print_table
from hftl.surroundings import quiet_libraries


if TYPE_CHECKING:
    from hftl.adapt import Result  # the real imports come late: what will happen is said before torch is read


TEXT: dict[str, Any] = {
    "data": "sample:wikipedia-topics",
    "model": "sentence-transformers/all-MiniLM-L6-v2",
    "max_train_samples": 2000,
    "max_seq_length": 128,
    "validation_size": 0.05,
}
IMAGES_FULL: dict[str, Any] = {"num_train_epochs": 6}
TEXT_FULL: dict[str, Any] = {"learning_rate": 2e-4, "num_train_epochs": 2}
ENTITIES: dict[str, Any] = {
    "data": "sample:wikipedia-subjects",
    "model": "sentence-transformers/all-MiniLM-L6-v2",
    "max_train_samples": 1000,
    "max_eval_samples": 600,
    "learning_rate": 3e-4,
    "num_train_epochs": 2,
}
IMAGES: dict[str, Any] = {"data": "sample:digits", "model": "efficientnet-lite0", "image_size": 64, "no_flip": True}


JOBS: dict[str, tuple[str, str, dict[str, Any]]] = {  # the run's folder → what it is in words, the task, its flags
    "text-probe": ("topics of texts, frozen features", "text-classification", {**TEXT, "method": "probe"}),
    "text-full": ("topics of texts, all layers", "text-classification", {**TEXT, **TEXT_FULL, "method": "full"}),
    "digits-probe": ("digits, frozen features", "image-classification", {**IMAGES, "method": "probe"}),
    "digits-full": ("digits, all layers", "image-classification", {**IMAGES, **IMAGES_FULL, "method": "full"}),
    "entities-full": ("entities in sentences, all layers", "token-classification", {**ENTITIES, "method": "full"}),
}


def run(folder: str = "runs", *, resume: bool = False) -> "list[Result]":
    """Do the runs of `JOBS` under `folder` and return them; with `resume`, take finished ones as they are."""
    from hftl.adapt import adapt

    results = []
    for number, (name, (words, task, flags)) in enumerate(JOBS.items(), 1):
        print(f"\n{number}/{len(JOBS)} {words}: {folder}/{name}", file=sys.stderr, flush=True)
        place = Path(folder) / name
        results.append(adapt(task, output_dir=place, overwrite=not resume, resume=resume, report_to="none", **flags))
    return results


def _rows(results: "list[Result]") -> list[tuple[str, ...]]:
    rows, seen = [], set()
    for result in results:
        report, evidence = result.report, result.evidence or {}
        data = report["data"]["name"]
        if data not in seen:
            rows += [_row(data, b["name"], b, b["seconds"], "", "") for b in report["baselines"]]
        seen.add(data)
        verdict, forgetting = evidence["verdict"], evidence["forgetting"]
        gap = f"{verdict['label']} {100 * verdict['gap']:+.1f} points"
        kept = forgetting["kept"]
        share = "all: frozen" if forgetting["unchanged"] else "" if kept is None else f"{kept:.1%}"
        name = f"{report['method']} ({report['model']['name']})"
        rows.append(_row(data, name, result.metrics, report["timing"]["total_seconds"], gap, share))
    return rows


def _row(data: str, name: str, scores: dict[str, Any], seconds: float, verdict: str, kept: str) -> tuple[str, ...]:
    both = [scores.get("accuracy") or scores["f1"], scores["macro_f1"]]
    cells = [f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for m in both]
    return (data, name, *cells, f"{seconds:.0f}", verdict, kept)


def main(argv: list[str] | None = None) -> None:
    """Run the tour and show what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", default="runs", help="folder for the five runs")
    parser.add_argument("--resume", action="store_true", help="go on with a tour that was cut off")
    typed = parser.parse_args(argv)
    folder = typed.output_dir
    print(
        f"{len(JOBS)} runs on real models and data, offline: about 7 minutes on two cores. Each trains a model, tests it "
        f"against simple baselines, and writes {folder}/NAME/report.html.",
        file=sys.stderr,
        flush=True,
    )
    quiet_libraries()
    from hftl.data.samples import load_sample

    try:
        results = run(folder, resume=typed.resume)
    except HftlError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    header = ("data", "model", "accuracy or F1 [95%]", "macro F1 [95%]", "seconds", "transfer", "kept of the base")
    print_table(
        "Every method beside a baseline without pretraining, same test rows", header, _rows(results), stdout=True
    )
    texts = load_sample("wikipedia-topics")["unlabelled"]["text"][:5]
    found = results[1].predict(texts)
    cells = [(text[:70], p.label, f"{p.probability:.2f}") for text, p in zip(texts, found, strict=True)]
    print_table("Summaries that nobody has labelled", ("text", "predicted topic", "probability"), cells, stdout=True)
    print(f"The evidence of each run is a page: open {folder}/text-full/report.html in a browser.")
    print(f"Runs: {', '.join(str(r.run_dir) for r in results)}. Next:")
    print(f'  .venv/bin/hftl predict {folder}/text-full "The tower is 330 metres tall and made of iron."')
    print(f'  .venv/bin/hftl predict {folder}/entities-full "The Nile is a river in Africa that flows north."')
    print(
        "  .venv/bin/hftl train text-classification --data your.csv --model sentence-transformers/all-MiniLM-L6-v2 --method probe"
    )
    print("  .venv/bin/hftl train image-classification --data your_folder --model efficientnet-lite0 --method full")
    print(f"  .venv/bin/hftl demo {folder}/text-full")
    print(f"  .venv/bin/hftl export {folder}/text-full --int8")


if __name__ == "__main__":
    main()
