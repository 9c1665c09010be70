"""Words are scored right: the integral against one by hand, the words against a model whose answer is known."""

import copy
import threading

import numpy as np
import pytest
import torch
import transformers

from hftl.demo.explain import explain_text, word_spans
from hftl.errors import DataError, ModelError
from hftl.models.heads import pool_mean
from hftl.predict import Predictor, load
from tests.tiny import TEXT_FAMILIES, build, tiny_text_rows


TEXT = "i feel happy and joyful today but she was sad"
LABELS = {0: "sad", 1: "glad", 2: "fond"}


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    """One per tiny family, from random weights, and one with the pooled head."""
    folder = tmp_path_factory.mktemp("text")
    found = {f: load(build(f, folder / f, num_labels=3, id2label=LABELS)) for f in TEXT_FAMILIES}
    plain = found["bert"]
    torch.manual_seed(0)
    pooled = pool_mean(plain.model, plain.labels)
    torch.nn.init.normal_(pooled.classifier.weight)
    return {**found, "pooled": Predictor(pooled, plain.processor, plain.task, plain.labels)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny BERT that has learned two classes by their words; it also says which words those are."""
    predictor = load(
        build("bert", tmp_path_factory.mktemp("trained") / "bert", num_labels=2, id2label={0: "a", 1: "b"})
    )
    rows = tiny_text_rows(256, 2, seed=1)
    model, tokenizer = predictor.model, predictor.processor
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(12):
        for start in range(0, len(rows), 32):
            texts, labels = zip(*rows[start : start + 32], strict=True)
            batch = tokenizer(list(texts), padding=True, return_tensors="pt")
            torch.nn.functional.cross_entropy(model(**batch).logits, torch.tensor(labels)).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    model.eval()
    return predictor


def log_odds(logits, label):
    p = torch.softmax(logits.double(), -1)[:, label]
    return torch.log(p / (1 - p))


def integral_by_hand(predictor, text, label, points=400):
    """Midpoint sums of the gradient along the straight path, in a copy of the model whose embeddings are set."""
    model, tokenizer = copy.deepcopy(predictor.model), predictor.processor
    encoded = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
    special = encoded.pop("special_tokens_mask").bool()
    ids = encoded["input_ids"]
    embeddings = model.base_model.embeddings
    table = model.get_input_embeddings().weight.detach()
    empty = torch.where(special, ids, tokenizer.pad_token_id)
    with torch.no_grad():
        if model.config.model_type == "distilbert":  # its embeddings do not take vectors alone
            end, start = embeddings(input_ids=ids), embeddings(input_ids=empty)
        else:
            end, start = embeddings(inputs_embeds=table[ids]), embeddings(inputs_embeds=table[empty])
    now = []
    embeddings.forward = lambda *_, **__: now[0]

    def output(values):
        now[:] = [values]
        rows = {k: v.expand(len(values), -1) for k, v in encoded.items()}
        return log_odds(model(**rows).logits, label)

    total = torch.zeros_like(end)
    for chunk in ((torch.arange(points) + 0.5) / points).split(50):
        at = (start + chunk[:, None, None] * (end - start)).requires_grad_()
        total += torch.autograd.grad(output(at).sum(), at)[0].sum(0, keepdim=True)
    with torch.no_grad():
        change = float(output(end)[0] - output(start)[0])
    return ((end - start) * total / points).sum(-1)[0], change


@pytest.mark.parametrize("family", [*TEXT_FAMILIES, "pooled"])
def test_equals_the_integral_by_hand(predictors, family):
    predictor = predictors[family]
    found = explain_text(predictor, TEXT, "glad")
    scores, change = integral_by_hand(predictor, TEXT, 1)
    assert found.change == pytest.approx(change, abs=1e-4)
    words = {piece: score * found.scale for piece, score in found.spans if not piece.isspace()}
    assert list(words) == TEXT.split()  # all different
    encoded = predictor.processor(TEXT)
    by_hand = dict.fromkeys(words, 0.0)
    for token, score in enumerate(scores.tolist()):
        at = encoded.token_to_chars(token)
        if at is not None and TEXT[at.start : at.end].strip():
            by_hand[TEXT[: at.end].split()[-1]] += score
    scale = max(map(abs, by_hand.values()))
    assert list(words.values()) == pytest.approx(list(by_hand.values()), abs=0.02 * scale)


@pytest.mark.parametrize("family", [*TEXT_FAMILIES, "pooled"])
def test_completeness(predictors, family):
    found = explain_text(predictors[family], TEXT)
    total = sum(score for _, score in found.spans) * found.scale
    assert total - found.change == pytest.approx(found.completeness_gap, abs=1e-4)
    assert abs(found.completeness_gap) <= 0.03 * abs(found.change)
    assert max(abs(score) for _, score in found.spans) == pytest.approx(1)


def test_the_words_of_the_class_count_most(trained):
    rows = tiny_text_rows(256, 2, seed=1)
    seen = [{word for text, label in rows if label == one for word in text.split()} for one in (0, 1)]
    first = both = 0
    for text, label in tiny_text_rows(20, 2, seed=9):
        found = explain_text(trained, text)
        assert found.label == "ab"[label]
        own = set(text.split()) & (seen[label] - seen[1 - label])  # two of six to eleven words
        best = [piece for piece, _ in sorted(found.spans, key=lambda span: -span[1])[:2]]
        first += best[0] in own
        both += set(best) == own
        other = explain_text(trained, text, "ba"[label])  # of two labels, what speaks for one speaks against the other
        assert [s for _, s in other.spans] == pytest.approx([-s for _, s in found.spans], abs=1e-3)
    assert first >= 15, first  # by chance 5
    assert both >= 10, both  # by chance 1


def test_a_linear_model_gives_its_weights(predictors):
    """On a bag of embeddings the log-odds of two classes are linear, so that a word scores weight times difference."""

    class Bag(torch.nn.Module):
        def __init__(self, table):
            super().__init__()
            self.table, self.out = table, torch.nn.Linear(32, 2)
            self.device = torch.device("cpu")

        def get_input_embeddings(self):
            return self.table

        def forward(self, input_ids, attention_mask, **_):
            states = (self.table(input_ids) * attention_mask[..., None]).sum(1)
            return transformers.modeling_outputs.SequenceClassifierOutput(logits=self.out(states))

    bert = predictors["bert"]
    bag = Bag(torch.nn.Embedding.from_pretrained(torch.randn(len(bert.processor), 32))).eval()
    found = explain_text(Predictor(bag, bert.processor, bert.task, ("a", "b")), TEXT, "b")
    with torch.no_grad():
        weight = bag.out.weight[1] - bag.out.weight[0]
        ids = torch.tensor(bert.processor(TEXT)["input_ids"][1:-1])
        wanted = ((bag.table(ids) - bag.table.weight[bert.processor.pad_token_id]) @ weight).tolist()
    got = [score * found.scale for piece, score in found.spans if not piece.isspace()]
    assert got == pytest.approx([wanted[i] for i in range(len(ids))], rel=1e-3, abs=1e-3)
    assert found.completeness_gap == pytest.approx(0, abs=1e-3)


def test_other_weights_other_scores(trained, tmp_path):
    """Adebayo et al. 2018: a method whose answer survives random weights explains the text, not the model."""
    other = load(build("bert", tmp_path / "other", num_labels=2, seed=5, id2label={0: "a", 1: "b"}))
    alike = []
    for text, _ in tiny_text_rows(10, 2, seed=9):
        one, two = ([score for _, score in explain_text(p, text, "a").spans] for p in (trained, other))
        alike.append(abs(np.corrcoef(one, two)[0, 1]))
    assert np.mean(alike) < 0.5


@pytest.mark.parametrize("family", ["bert", "pooled"])
def test_the_model_is_left_as_it_was(predictors, family):
    model = predictors[family].model
    first = next(iter(model.parameters()))
    first.requires_grad_(False)
    before = {name: (value.clone(), value.data_ptr()) for name, value in model.state_dict().items()}
    try:
        explain_text(predictors[family], TEXT)
        assert not first.requires_grad
        assert all(p.requires_grad for p in model.parameters() if p is not first)
    finally:
        first.requires_grad_(True)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    for name, value in model.state_dict().items():
        assert value.data_ptr() == before[name][1]
        assert torch.equal(value, before[name][0])


def test_threads_do_not_meet(predictors):
    """Several explanations and predictions at once give what each gives alone."""
    predictor = predictors["bert"]
    texts = [text for text, _ in tiny_text_rows(6, 3, seed=4)]
    alone = [explain_text(predictor, t) for t in texts]
    batch = predictor.processor(TEXT, return_tensors="pt")
    with torch.no_grad():
        logits = predictor.model(**batch).logits
    got: dict[int, object] = {}
    wrong: list[str] = []

    def explain(i):
        got[i] = explain_text(predictor, texts[i])

    def predict():
        for _ in range(100):
            with torch.no_grad():
                if not torch.allclose(predictor.model(**batch).logits, logits, atol=1e-5):
                    wrong.append("another answer")

    threads = [threading.Thread(target=explain, args=(i,)) for i in range(6)] + [threading.Thread(target=predict)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong
    for i, one in enumerate(alone):
        assert got[i].spans == one.spans or np.allclose(
            [s for _, s in got[i].spans], [s for _, s in one.spans], atol=1e-4
        )


ODD = {
    "empty": "",
    "spaces": " \n\t ",
    "edges": "  happy  sad \n",
    "emoji": "happy 👩‍👩‍👧 🇩🇪🇫🇷 👍🏽 sad❤️",
    "accents": "nai\u0308ve hap\u0301py Zürich",
    "right to left": "שלום عليكم happy بِسْمِ",
    "wide": "我爱 happy 日本語テスト",
    "html": "<script>alert('happy')</script> &amp; \"sad\"",
    "controls": "\x00\x07happy\u202esad\u200b\ufeff\x1b[31m",
    "special": "[CLS] happy [SEP] </s> <pad> [PAD]",
    "no space": "happysadhappy" * 5,
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_the_pieces_are_the_text(predictors, family, text):
    found = explain_text(predictors[family], text)
    assert "".join(piece for piece, _ in found.spans) == text
    assert all(piece and -1 <= score <= 1 for piece, score in found.spans)
    assert found.read == (0, len(text)) or found.truncated
    assert not any(piece.startswith(("\u200d", "\u0308", "\u0301", "\U0001f3fd")) for piece, _ in found.spans)


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_what_is_cut_off_scores_nothing(predictors, family):
    text = " happy sad" * 5000
    found = explain_text(predictors[family], text)
    assert found.truncated
    assert found.read[0] == 0
    assert text[: found.read[1]].count("happy") == 31  # 62 of 64 tokens are words
    assert "".join(piece for piece, _ in found.spans) == text
    assert found.spans[-1] == (text[found.read[1] :], 0.0)


def test_cut_off_on_the_left(predictors):
    plain = predictors["bert"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(plain.processor.name_or_path, truncation_side="left")
    text = "sad " * 100 + "happy"
    found = explain_text(Predictor(plain.model, tokenizer, plain.task, plain.labels), text)
    assert found.truncated
    assert found.read == (len(text) - len("sad " * 61 + "happy"), len(text))
    assert found.spans[0] == (text[: found.read[0]], 0.0)


def test_one_score_for_the_pieces_of_a_word():
    spans, read = word_spans(
        "ab cd", [(0, 0), (0, 1), (1, 2), (3, 5), (0, 0)], [None, 0, 0, 1, None], [9.0, 1.0, 2.0, -1.0, 9.0]
    )
    assert spans == (("ab", 3.0), (" ", 0.0), ("cd", -1.0))
    assert read == (0, 5)
    # bytes of one character, and a token that is nothing but a space
    spans, _ = word_spans("é x", [(0, 1), (0, 1), (1, 2), (2, 3)], [0, 0, 1, 1], [1.0, 2.0, 4.0, 8.0])
    assert spans == (("é", 3.0), (" ", 0.0), ("x", 12.0))


def test_a_label_that_there_is_not(predictors):
    with pytest.raises(DataError, match=r"no label 'glat'\. Did you mean 'glad'"):
        explain_text(predictors["bert"], TEXT, "glat")


def test_gradients_that_are_no_numbers(predictors, tmp_path):
    broken = load(build("bert", tmp_path / "broken", num_labels=2))
    with torch.no_grad():
        broken.model.classifier.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        explain_text(broken, TEXT)
