"""`python -m benchmarks.pick DATA`: what following `hftl pick` costs, beside fine-tuning every candidate.

DATA is a folder of labelled sets. On 500 training rows of each, the packaged text models and a tiny one with random weights
are ranked by `pick`, then each is trained by `full` with its defaults. The regret is what the best of them scores on 1,000
test rows, less what pick's first one does. docs/pick.md holds the table.
"""

import argparse
import tempfile
from pathlib import Path

from hftl.adapt import adapt
from hftl.selection.pick import pick
from hftl.surroundings import quiet_libraries
from tests.tiny import build


MODELS = ("sentence-transformers/all-MiniLM-L6-v2", "multilingual-e5-small-4bit")
SETS = ("banking77", "clinc150", "mr_polarity")
FLAGS = {"max_train_samples": 500, "max_eval_samples": 1000, "max_seq_length": 64}


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="*", default=SETS)
    typed = parser.parse_args()
    quiet_libraries()
    print("| set | pick's order: score of its probe | fine-tuned, in that order | regret, points |\n|---|---|---|---|")
    for name in typed.sets:
        with tempfile.TemporaryDirectory() as place:
            random = Path(place) / "tiny-random"
            build("bert", random)
            task, data = "text-classification", str(typed.data / name)
            picked = pick(task, [*MODELS, str(random)], data=data, output_dir=f"{place}/pick", **FLAGS)["models"]
            scores = []
            for one in picked:
                path = str(random) if one["name"].endswith(random.name) else one["name"]
                run = adapt(task, data, path, "full", f"{place}/run", overwrite=True, evidence=False, **FLAGS)
                scores.append(run.metrics["accuracy"]["value"])
        order = ", ".join(f"{one['name'].rpartition('/')[2]} {one['probe']:.3f}" for one in picked)
        tuned = ", ".join(f"{score:.3f}" for score in scores)
        print(f"| {name} | {order} | {tuned} | {100 * (max(scores) - scores[0]):.1f} |", flush=True)


if __name__ == "__main__":
    main()
