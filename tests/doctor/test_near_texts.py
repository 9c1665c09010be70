"""Near-duplicate texts against Python sets and all pairs."""

from itertools import combinations

import numpy as np
import pytest

from hftl.doctor import texts as near_texts
from hftl.doctor.texts import (
    WINDOW,
    bucket_pairs,
    group_near,
    jaccard,
    minhash,
    near_text_groups,
    normal_form,
    shingles,
)


WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in "rstvxz"]


def sentence(seed, words):
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def runs(text):
    padded = text if len(text) >= 5 else text.ljust(5, "\0")
    return {padded[i : i + 5] for i in range(len(padded) - 4)}


def true_jaccard(a, b):
    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


def varied_texts(seed=0, count=120):
    """Texts, and copies of them with a few letters changed, dropped or added: every likeness from 0 to 1."""
    rng = np.random.default_rng(seed)
    texts = [sentence(i, int(rng.integers(1, 14))) for i in range(count)]
    for i in range(count):
        letters = list(texts[i])
        for _ in range(rng.integers(0, 6)):
            place = int(rng.integers(len(letters)))
            letters[place] = ["", "q", letters[place] + "w"][rng.integers(3)]
        texts.append("".join(letters) or "x")
    return texts


def test_shingles_are_the_runs_of_five():
    texts = ["abcdefgh", "ab", "", "ünïcödé 😀 text", "aaaaaaaaaa", "abcde"]
    values, starts = shingles(texts)
    parts = [set(part.tolist()) for part in np.split(values, starts[1:])]
    assert [len(part) for part in parts] == [len(runs(text)) for text in texts]
    assert len(values) == sum(max(len(text), 5) - 4 for text in texts)
    for (a, x), (b, y) in combinations(zip(parts, texts, strict=True), 2):
        assert len(a & b) == len(runs(x) & runs(y))


@pytest.mark.parametrize("chunk", [near_texts._CHUNK, 300])
def test_jaccard_equals_sets(monkeypatch, chunk):
    monkeypatch.setattr(near_texts, "_CHUNK", chunk)
    texts = varied_texts(count=40)
    left, right = np.array(list(combinations(range(len(texts)), 2))).T
    expected = [true_jaccard(texts[i], texts[j]) for i, j in zip(left, right, strict=True)]
    assert jaccard(texts, left, right) == pytest.approx(expected, abs=1e-12)


def test_signatures_estimate_jaccard():
    texts = varied_texts()
    signatures = minhash(texts)
    errors = []
    for i in range(120):
        estimate = (signatures[i] == signatures[i + 120]).mean()
        errors.append(estimate - true_jaccard(texts[i], texts[i + 120]))
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.05  # binomial: at most (.25 / 120) ** .5 = .046


def test_chunks_do_not_change_signatures(monkeypatch):
    texts = varied_texts()
    whole = minhash(texts)
    monkeypatch.setattr(near_texts, "_CHUNK", 50)
    np.testing.assert_array_equal(minhash(texts), whole)


@pytest.mark.parametrize("seed", range(3))
def test_groups_equal_all_pairs(seed):
    texts = varied_texts(seed)
    group = near_text_groups(texts)
    expected = np.arange(len(texts))  # joined by every pair of 0.8 or more
    for i, j in combinations(range(len(texts)), 2):
        if true_jaccard(normal_form(texts[i]), normal_form(texts[j])) >= 0.8:
            expected[expected == expected[j]] = expected[i]
    together = lambda numbers: {(i, j) for i, j in combinations(range(len(texts)), 2) if numbers[i] == numbers[j]}  # noqa: E731
    wanted, found = together(expected), together(group)
    assert len(wanted) > 15
    assert not found - wanted  # every pair is verified
    assert len(wanted - found) <= 0.02 * len(wanted)


@pytest.mark.parametrize("texts", [[], ["one"], ["", ""], ["a", "b"], ["\ud800 odd", "\ud800 ODD"]])
def test_few_texts(texts):
    assert len(near_text_groups(texts)) == len(texts)


def test_one_template_costs_linear_time():
    # All rows of a bucket may be alike: the pairs that are looked at grow with the rows, not with their square.
    left, right = bucket_pairs(np.zeros(5000, dtype=np.uint64))
    assert len(left) < (WINDOW + 1) * 5000
    assert set(left.tolist()) | set(right.tolist()) == set(range(5000))
    texts = [f"your order {i:05d} has been shipped and will arrive within three days" for i in range(3000)]
    assert len(set(near_text_groups(texts).tolist())) == 1


def test_buckets_of_a_few_rows_give_all_pairs():
    rng = np.random.default_rng(0)
    buckets = rng.permutation(np.repeat(np.arange(40), rng.integers(1, WINDOW + 1, 40)))
    pairs = {tuple(sorted(pair)) for pair in zip(*map(np.ndarray.tolist, bucket_pairs(buckets)), strict=True)}
    assert pairs == {(i, j) for i, j in combinations(range(len(buckets)), 2) if buckets[i] == buckets[j]}


def test_no_pair_is_verified_twice():
    seen = []

    def verify(left, right):
        seen.extend(zip(left.tolist(), right.tolist(), strict=True))
        return np.zeros(len(left), dtype=bool)

    bands = [np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1]), np.array([3, 3, 3, 3, 3])]
    group = group_near(iter(bands), 5, verify)
    assert len(set(group.tolist())) == 5
    assert len(seen) == len(set(seen)) == 10


def test_long_texts_need_about_equal_lengths():
    rng = np.random.default_rng(0)
    letters = "".join(rng.choice(list("abcdefghij "), 120_000))
    group = near_text_groups([letters, letters + "end", letters[:60_000], "a short one"])
    assert group[0] == group[1]
    assert group[0] != group[2]
