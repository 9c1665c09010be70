"""Answer rows with a saved model by plain transformers: run as a script, by a process that has never seen hftl.

Its stdin says, as JSON, where the model is and which rows to answer; the labels and the answers go to stdout. Importing
hftl fails here on purpose: what needs it is no standard artifact.
"""

import base64
import json
import sys
import time
from contextlib import redirect_stdout
from importlib.abc import MetaPathFinder
from io import BytesIO


NOT_DOWNLOADED = 75  # exit code EX_TEMPFAIL of sysexits.h


class _NoHftl(MetaPathFinder):
    """Refuses hftl, also where it is installed."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] == "hftl":
            raise ImportError("the artifact needs hftl, which a user of plain transformers does not have")


def _adapted(question, folder):
    """The base with the adapter of `folder`, built as the card of an adapter says."""
    import transformers
    from peft import PeftModel

    auto_model = getattr(transformers, question["auto_model"])
    name, revision = question["base"]
    base = auto_model.from_pretrained(
        name,
        revision=revision,
        config=transformers.AutoConfig.from_pretrained(folder),  # labels, and that they may be several
        ignore_mismatched_sizes=True,
        dtype="float32",
    )
    return PeftModel.from_pretrained(base, folder).merge_and_unload()


def _download(question):
    """The repository, downloaded anew; what may pass is tried again, and says nothing of the artifact."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    wait = 1
    while True:
        try:
            return snapshot_download(
                question["model"], revision=question["revision"], cache_dir=question["download_to"]
            )
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except Exception as error:  # HTTP, the connection, the disk
            if wait > 8:
                sys.stderr.write(f"{type(error).__name__}: {error}".splitlines()[0] + "\n")
                raise SystemExit(NOT_DOWNLOADED) from None
            time.sleep(wait)
            wait *= 2


def _plain(value):
    """What JSON does not hold: a picture as a PNG in base64, a number of numpy such as the score of a token."""
    if not hasattr(value, "save"):
        return float(value)
    value.save(file := BytesIO(), "PNG")
    return base64.b64encode(file.getvalue()).decode()


def answer(question: dict) -> dict:
    """Return {"labels", "answers"}: what `pipeline` answers to the rows of the question, texts or files of images."""
    import transformers

    folder = question["model"] if question["revision"] is None else _download(question)
    options = {"device": "cpu", "trust_remote_code": question["own_code"], **question["options"]}
    if question["base"]:
        processor = getattr(transformers, question["processor"]).from_pretrained(folder)
        options |= {"model": _adapted(question, folder), question["argument"]: processor}
    pipe = transformers.pipeline(question["task"], **{"model": folder, **options})
    config = pipe.model.config
    labels = [str(config.id2label[i]) for i in range(config.num_labels)]
    # one by one, as most users do; as JSON at once, since pictures of all would fill the memory
    answers = (json.dumps(pipe(row, **question["asked"]), default=_plain) for row in question["rows"])
    return {"labels": labels, "answers": list(map(json.loads, answers))}


if __name__ == "__main__":
    sys.meta_path.insert(0, _NoHftl())
    with redirect_stdout(sys.stderr):  # libraries may print
        answers = answer(json.load(sys.stdin))
    json.dump(answers, sys.stdout)
