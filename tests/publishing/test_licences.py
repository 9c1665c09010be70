"""Which licence a model is published under: what is known, what is carried over, what is asked for."""

import pytest

from hftl.data.samples import SAMPLES
from hftl.errors import ConfigError
from hftl.models.packaged import PACKAGED
from hftl.publishing.licences import LICENSES, check_license, license_id
from hftl.publishing.metadata import Source, choose_license, known_license
from tests.hub.server import HubServer
from tests.hub.target import in_process


def base(license: str | None, stated: str = "") -> Source:
    return Source("base model", "ns/base", license, stated)


def data(license: str | None, stated: str = "") -> Source:
    return Source("data", "ns/data", license, stated)


@pytest.mark.parametrize(
    ("written", "identifier"),
    [
        ("Apache-2.0", "apache-2.0"),
        ("CC BY-SA", "cc-by-sa-4.0"),
        ("CC BY-SA 4.0 (Wikipedia)", "cc-by-sa-4.0"),
        ("CC-BY 3.0", "cc-by-3.0"),
        ("cc by nc", "cc-by-nc-4.0"),
        ("llama3.1", "llama3.1"),
        ("cc-by-sa-2.0", None),  # the Hub has no identifier for this version
        ("The MIT License", None),  # asked for: nothing is guessed from free text
        ("free for everyone", None),
        ("", None),
    ],
)
def test_other_spelling_becomes_an_identifier_of_the_hub(written, identifier):
    assert license_id(written) == identifier


def test_every_identifier_stands_for_itself():
    assert all(license_id(one) == one == check_license(one.upper()) for one in LICENSES)


def test_packaged_weights_and_samples_have_known_licences():
    assert all(license_id(one.license) for one in PACKAGED.values())
    assert all(license_id(one.license) for one in SAMPLES.values())


@pytest.mark.parametrize(
    ("of_base", "of_data", "chosen"),
    [
        ("apache-2.0", "cc-by-4.0", "apache-2.0"),
        ("mit", "mit", "mit"),
        ("apache-2.0", "cc-by-sa-4.0", "cc-by-sa-4.0"),
        ("apache-2.0", "cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("cc-by-nc-4.0", "mit", "cc-by-nc-4.0"),
        ("llama3.2", "cc0-1.0", "llama3.2"),
        ("gemma", "gemma", "gemma"),
        ("gpl-3.0", "odc-by", "gpl-3.0"),
    ],
)
def test_terms_are_carried_over(of_base, of_data, chosen):
    licence = choose_license(base(of_base), data(of_data))
    assert licence.id == chosen
    assert of_base in licence.reason
    assert of_data in licence.reason


@pytest.mark.parametrize(
    ("of_base", "of_data"),
    [
        ("cc-by-sa-4.0", "cc-by-nc-4.0"),  # the same terms for all, and no commerce
        ("cc-by-sa-4.0", "cc-by-nc-sa-4.0"),
        ("cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
        ("gpl-3.0", "cc-by-sa-4.0"),
        ("llama3", "cc-by-nc-4.0"),
    ],
)
def test_a_conflict_is_asked_about(of_base, of_data):
    with pytest.raises(ConfigError, match="--license ID") as caught:
        choose_license(base(of_base), data(of_data))
    assert of_base in str(caught.value)
    assert of_data in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("of_data", ["cc-by-nd-4.0", "cc-by-nc-nd-4.0"])
def test_no_derivatives_is_asked_about(of_data):
    with pytest.raises(ConfigError, match="no derived works"):
        choose_license(base("apache-2.0"), data(of_data))


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        (base("apache-2.0"), data(None), "the data ns/data is"),
        (base(None), data("mit"), "the base model ns/base is"),
        (base(None), data(None), "the base model ns/base and the data ns/data is"),
        (base(None, "free for all"), data("mit"), "'free for all'"),
        (base("other"), data("mit"), "'other'"),
        (base("cc"), data("mit"), "'cc'"),
    ],
)
def test_what_is_unknown_is_named(one, other, named):
    with pytest.raises(ConfigError, match="is not known: add --license ID") as caught:
        choose_license(one, other)
    assert named in str(caught.value)


def test_a_given_licence_wins_and_keeps_the_others_in_sight():
    assert choose_license(base(None), data(None), "MIT").id == "mit"
    assert choose_license(base("mit"), data("cc-by-4.0"), "other").reason == "chosen by the publisher"
    held = choose_license(base("cc-by-nc-4.0"), data("mit"), "mit")
    assert held.id == "mit"
    assert "cc-by-nc-4.0" in held.reason


@pytest.mark.parametrize(
    ("given", "meant"), [("aapche-2.0", "apache-2.0"), ("CC BY-SA", "cc-by-sa-4.0"), ("gpl", None), ("mine", None)]
)
def test_a_given_licence_is_one_of_the_hub(given, meant):
    if given in LICENSES:
        assert check_license(given) == given
        return
    with pytest.raises(ConfigError, match="identifier of the Hub") as caught:
        choose_license(base("mit"), data("mit"), given)
    assert meant is None or f"Did you mean '{meant}'?" in str(caught.value)


def report(name: str, source: str, data_name: str) -> dict:
    return {"model": {"name": name, "source": source, "revision": None}, "data": {"name": data_name}}


def test_packaged_and_samples_are_looked_up():
    known = known_license(report("sentence-transformers/all-MiniLM-L6-v2", "packaged", "sample:wikipedia-topics"))
    assert (known.base.id, known.data.id) == ("apache-2.0", "cc-by-sa-4.0")
    assert known_license(report("efficientnet-lite0", "packaged", "sample:digits")).data.id == "cc-by-4.0"


@pytest.mark.parametrize(
    ("readme", "found"),
    [
        ("---\nlicense: mit\n---\n# x", "mit"),
        ("---\r\nlicense: [cc-by-4.0]\r\n---\r\n", "cc-by-4.0"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", None),
        ("---\nlicense: other\nlicense_name: my-own\n---\n", None),
        ("---\nlicense: [\n---\n", None),
        ("---\n- license\n---\n", None),
        ("# no front matter", None),
        (None, None),
    ],
)
def test_a_model_folder_is_asked_by_its_card(tmp_path, readme, found):
    folder = tmp_path / "my-model"
    folder.mkdir()
    if readme is not None:
        (folder / "README.md").write_text(readme, newline="")
    source = known_license(report(str(folder), "folder", "tickets.csv"), online=False).base
    assert source.id == found
    assert source.name == "my-model"  # no folder of this machine
    with pytest.raises(ConfigError, match=r"tickets\.csv is not known"):
        choose_license(base("mit"), known_license(report(str(folder), "folder", "tickets.csv")).data)


def test_nothing_is_asked_of_the_hub_when_it_is_not_to_be():
    known = known_license(report("ns/never-seen", "hub", "ns/data:config@main"), online=False)
    assert known.base.id is None
    assert known.data.name == "ns/data"


def test_cards_on_the_hub_are_read(tmp_path):
    cards = {
        "models/ns/base": "license: apache-2.0",
        "datasets/ns/data": "license:\n- cc-by-sa-4.0",
        "models/ns/no": "",
    }
    for place, fields in cards.items():
        (tmp_path / "hub" / place).mkdir(parents=True)
        (tmp_path / "hub" / place / "README.md").write_text(f"---\n{fields}\n---\n# a card\n")
    with HubServer(tmp_path / "hub") as hub, in_process(hub.url, hub.token, tmp_path / "home"):
        known = known_license(report("ns/base", "hub", "ns/data:small@main"))
        silent = known_license(report("ns/no", "hub", "ns/missing"))
    assert choose_license(known.base, known.data).id == "cc-by-sa-4.0"
    assert (silent.base.id, silent.data.id) == (None, None)
    assert "ns/missing" in silent.data.name
