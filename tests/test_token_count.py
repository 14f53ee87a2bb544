"""Counting tokens."""

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tamis import ScoreFilter
from tamis.errors import MissingExtraError, ModelError, UsageError
from tamis.filters import TokenCountFilter, TokenizerFertilityFilter
from tamis.models import checkpoint, token_counts
from tamis.testing import check_stage, sample_table


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A tokenizer whose tokens are words and marks, with one before every text and one after."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_truncation(3)
    folder = tmp_path_factory.mktemp("words")
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def column(*texts):
    return pa.array(texts, pa.large_string())


TEXTS = column("one two, three", "", None, "word " * 500, "x")


def test_tokens_are_counted_without_special_ones_and_without_a_cut(words):
    rule = TokenCountFilter(words, 1, 400)
    scores = rule.score_batch(TEXTS)
    assert scores.to_pylist() == [4, 0, 0, 500, 1]
    assert rule.reasons(scores).to_pylist() == [None, "fewer than 1 tokens", "fewer than 1 tokens",
                                                "more than 400 tokens", None]  # fmt: skip
    assert TokenCountFilter(words + "/tokenizer.json").score_batch(TEXTS).to_pylist() == scores.to_pylist()
    assert TokenCountFilter(words).keep_document(0)


def test_fertility_is_characters_for_each_token(words):
    rule = TokenizerFertilityFilter(words, 2.5)
    assert rule.score_batch(TEXTS).to_pylist() == [14 / 4, 0, 0, 5, 1]
    assert [why is None for why in rule.reasons(rule.score_batch(TEXTS)).to_pylist()] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_batch_is_tokenised_in_chunks(words, monkeypatch):
    monkeypatch.setattr(token_counts, "_TOGETHER", 10)
    assert TokenCountFilter(words).score_batch(TEXTS).to_pylist() == [4, 0, 0, 500, 1]
    assert TokenCountFilter(words).score_batch(column()).to_pylist() == []


def test_a_sentencepiece_file_is_a_tokenizer(tmp_path):
    import sentencepiece

    texts = [f"word{i % 7} and word{i % 5} are words" for i in range(200)]
    with (tmp_path / "pieces.model").open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=out, vocab_size=20, minloglevel=2
        )
    rule = TokenizerFertilityFilter(str(tmp_path / "pieces.model"), 1)
    score = rule.score_document("word1 and word2")
    assert 1 < score < 8
    (tmp_path / "broken.model").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"broken.model cannot be read as a SentencePiece model"):
        TokenCountFilter(str(tmp_path / "broken.model")).score_document("x")


def test_the_contract_holds(words):
    check_stage(ScoreFilter(TokenCountFilter(words, 3, 50), score_field="made"), sample_table(), fresh_process=False)
    check_stage(ScoreFilter(TokenizerFertilityFilter(words)), sample_table(), fresh_process=False)


def test_the_run_is_known_by_the_tokenizer(words, tmp_path):
    here, there = TokenCountFilter(words).identity(), TokenizerFertilityFilter(words + "/tokenizer.json").identity()
    assert list(here) == ["tokenizer"]
    assert list(there) == ["path_to_tokenizer"]
    assert TokenCountFilter("some/where").identity() == {}


def test_what_cannot_be_is_said_with_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="min_tokens must be from 0 to max_tokens; got 5 and 4"):
        TokenCountFilter("x", 5, 4)
    with pytest.raises(UsageError, match="tokenizer must be a hub id, a directory or a file; got ''"):
        TokenCountFilter("")
    with pytest.raises(UsageError, match="min_char_to_token_ratio must be 0 or more; got nan"):
        TokenizerFertilityFilter("x", float("nan"))
    with pytest.raises(ModelError, match=r"TokenCountFilter: there is no model directory '\./nowhere'"):
        TokenCountFilter("./nowhere").score_document("x")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"the tokenizer .*tokenizer.json cannot be loaded"):
        TokenCountFilter(str(tmp_path)).score_document("x")
    monkeypatch.setattr(checkpoint.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tamis\[models\]'"):
        TokenCountFilter("x")
