"""The tokens of questions and labels: found in every kind of text, and captured as the prompt run alone has them."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from doubtlens.extract import extract, open_run, render_prompts
from doubtlens.extract.batching import common_prefix_length
from doubtlens.extract.examples import TWO_SHOT_EXAMPLES
from doubtlens.extract.forward import Forwarder
from doubtlens.extract.hdf5 import write_text
from doubtlens.extract.positions import (
    PromptPositions,
    decoded_offsets,
    find_positions,
    known_positions,
    positions_of_prompt,
)
from doubtlens.extract.prompts import LABELS
from doubtlens.extract.selftest import SelfTestError
from doubtlens.extract.sites import SiteReader
from doubtlens.extract.store import Run

ALL = ("last", "question_last", "question_mean", "labels")
TOLERANCE = {"rtol": 2e-4, "atol": 2e-4}
PLAIN = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TRIMMING = PLAIN.replace("message['content']", "message['content'] | trim")
REWRITING = PLAIN.replace("message['content']", "message['content'] | replace('?', '!')")


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    """Questions of two to four options: short, long, beyond ASCII, and one of the worked examples itself."""
    example = TWO_SHOT_EXAMPLES[1]
    frame = pd.DataFrame(
        {
            "id": [f"q{number}" for number in range(6)],
            "question": [
                "Which river is it?",
                "Was heißt »日本« auf Deutsch – und 🦉?",
                example.question,
                " ".join(["the old king of music"] * 9) + "?",
                "A",
                "Which river is it? Which river is it?",
            ],
            "options": [
                ["A. river", "B"],
                ["Japan 日本", "Eule 🦉", "é", "A"],
                list(example.options),
                ["music", "the king", "old"],
                ["B", "A"],
                ["Which river is it?", "no", "A. no"],
            ],
        }
    )
    frame.attrs["name"] = "made"
    return frame


def trained_across_words(texts: list[str]) -> Any:
    """A byte-level tokenizer whose tokens span words and lines, so that they straddle every boundary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")


def with_template(tokenizer: Any, template: str) -> Any:
    from copy import deepcopy

    talking = deepcopy(tokenizer)
    talking.chat_template = template
    return talking


def located(
    tokenizer: Any, items: pd.DataFrame, prompt: str, positions: tuple[str, ...] = ALL, **settings: Any
) -> tuple[Any, list[list[int]], list[PromptPositions]]:
    rendered = render_prompts(items, prompt, tokenizer=tokenizer, **settings)
    ids = [tokenizer(row.text, add_special_tokens=rendered.add_bos)["input_ids"] for row in rendered.rows]
    names = [items["id"][row.item] for row in rendered.rows]
    return rendered, ids, find_positions(tokenizer, rendered, ids, positions, names)


def characters_of(row: Any, question: str, options: list[str], prompt: str) -> tuple[int, int, list[int]]:
    """Where question and labels stand in a text, from the item's own block written out once more."""
    indent = "    " if prompt == "moore2025" else ""
    lines = [f"{indent}{LABELS[place]}. {options[option]}\n" for place, option in enumerate(row.order)]
    block = f"Question: {question}\n" + ("".join(lines) if row.labels else "")
    if block in row.text:
        start = row.text.rindex(block) + len("Question: ")
    else:  # the question alone is the last turn
        start = row.text.rindex(f"<|user|>\n{question.strip()}\n<|assistant|>") + len("<|user|>\n")
        question = question.strip()
    place = start + len(question) + 1 + len(indent)
    labels = [place + sum(map(len, lines[:number])) for number in range(len(lines))]
    leading = len(question) - len(question.lstrip())
    return start + leading, start + leading + len(question.strip()), labels if row.labels else []


def require_the_right_tokens(tokenizer: Any, items: pd.DataFrame, rendered: Any, ids: Any, found: Any) -> None:
    """The last token from which on everything is there, and the first up to which everything is."""
    width = max(map(len, items["options"])) if rendered.lists_options else 0
    for row, tokens, at in zip(rendered.rows, ids, found, strict=True):
        options = items["options"][row.item]
        start, stop, labels = characters_of(row, items["question"][row.item], options, rendered.prompt)
        endings = [tokenizer.decode(tokens[place:]) for place in range(len(tokens))]
        beginnings = [tokenizer.decode(tokens[: place + 1]) for place in range(len(tokens))]

        def holding(character: int, text: str = row.text, endings: list[str] = endings) -> int:
            return max(place for place, ending in enumerate(endings) if ending.endswith(text[character:]))

        assert at.last == len(tokens) - 1
        last = min(place for place, beginning in enumerate(beginnings) if row.text[:stop] in beginning)
        assert at.question == (holding(start), last + 1)
        assert len(at.labels) == width
        for option, character in zip(row.order, labels, strict=bool(labels)):
            assert row.text[character] in LABELS
            assert at.labels[option] == holding(character)
        assert all(token == -1 for token in at.labels[len(options) :])


# Finding tokens


@pytest.mark.parametrize("settings", [{}, {"permutations": "cyclic"}, {"option_order": 5}])
@pytest.mark.parametrize("prompt", ["two_shot", "moore2025"])
@pytest.mark.parametrize("kind", ["words", "across words", "chat", "trimming chat"])
def test_tokens_of_questions_and_labels_are_found(
    kind: str, prompt: str, settings: dict[str, Any], items: pd.DataFrame, tokenizer: Any
) -> None:
    if kind == "across words":
        tokenizer = trained_across_words([row.text for row in render_prompts(items, prompt).rows])
    elif kind != "words":
        tokenizer = with_template(tokenizer, PLAIN if kind == "chat" else TRIMMING)
        settings = settings | {"chat": "always"}
    require_the_right_tokens(tokenizer, items, *located(tokenizer, items, prompt, **settings))


@pytest.mark.parametrize("chat", ["never", "always"])
def test_questions_are_found_where_no_option_is_listed(chat: str, items: pd.DataFrame, tokenizer: Any) -> None:
    spaced = items.copy()
    # A template may trim what it is given, and its own words may be those of the question.
    spaced["question"] = [*spaced["question"][:4], "assistant", "  Which river is it? \n"]
    talking = with_template(tokenizer, TRIMMING)
    rendered, ids, found = located(talking, spaced, "open_two_shot", ("last", "question_mean"), chat=chat)
    require_the_right_tokens(talking, spaced, rendered, ids, found)


def test_tokens_straddle_the_boundaries_in_the_case_that_tests_it(items: pd.DataFrame) -> None:
    tokenizer = trained_across_words([row.text for row in render_prompts(items, "two_shot").rows])
    _, ids, found = located(tokenizer, items, "two_shot")
    texts = [tokenizer.decode(ids[row][slice(*found[row].question)]) for row in range(6)]
    questions = items["question"].tolist()
    assert sum(not text.startswith(question) for text, question in zip(texts, questions, strict=True)) > 2
    assert sum(not text.endswith(question) for text, question in zip(texts, questions, strict=True)) > 2


def test_a_case_by_hand_in_bytes(items: pd.DataFrame) -> None:
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()  # written in Python: it keeps no offsets
    assert not tokenizer.is_fast
    rendered, ids, found = located(tokenizer, items, "two_shot", option_order=1)
    for row, tokens, at in zip(rendered.rows, ids, found, strict=True):
        data, question = row.text.encode(), items["question"][row.item].encode()
        assert tokens[:-1] == [byte + 3 for byte in data]  # and an end token
        start = data.rindex(b"\n\nQuestion: ") + len(b"\n\nQuestion: ")
        assert at.question == (start, start + len(question))
        place = start + len(question) + 1
        for shown, option in enumerate(row.order):
            assert at.labels[option] == place
            place += len(f"{LABELS[shown]}. {items['options'][row.item][option]}\n".encode())


def test_offsets_by_decoding_find_what_the_tokenizers_own_find(items: pd.DataFrame, tokenizer: Any) -> None:
    def slow(text: Any, **settings: Any) -> Any:
        return tokenizer(text, **settings)

    for make in (lambda texts: tokenizer, trained_across_words):
        texts = [row.text for row in render_prompts(items, "two_shot").rows]
        made = make(texts)
        for text in texts[:3]:
            encoded = made(text, return_offsets_mapping=True)
            offsets = decoded_offsets(made, encoded["input_ids"], text)
            for character in range(len(text)):
                holding = [
                    [token for token, (start, stop) in enumerate(spans) if start < character + 1 and stop > character]
                    for spans in (encoded["offset_mapping"], offsets)
                ]
                assert holding[0] == holding[1], (character, text[character])
    assert decoded_offsets(tokenizer, tokenizer("one")["input_ids"], "two") == []


def test_what_cannot_be_found_is_refused_by_item(items: pd.DataFrame, tokenizer: Any) -> None:
    talking = with_template(tokenizer, REWRITING)
    with pytest.raises(
        ValueError, match=r"item q0: its question was not found .* rewrites what it is given.*\"never\""
    ):
        located(talking, items, "two_shot", ("last", "labels"), chat="always")
    rendered, _, found = located(talking, items, "two_shot", ("last",), chat="always")
    assert found[0].question is None
    assert rendered.rows[0].label_starts == ()
    with pytest.raises(ValueError, match=r"must not name labels for the prompt 'open_two_shot'.* moore2025, two_shot"):
        located(tokenizer, items, "open_two_shot", ("last", "labels"))

    class Silent:
        is_fast, name_or_path = False, "silent"

        def __call__(self, text: str, **settings: Any) -> Any:
            return tokenizer(text, **settings)

        def decode(self, ids: Any, **settings: Any) -> str:
            return "..."

    for wanted, what in (
        (("last", "question_last"), "its question"),
        (("last", "labels"), "the labels of its options"),
    ):
        with pytest.raises(ValueError, match=f"item q0: the tokens of {what} were not found: .*'silent' does not tell"):
            located(Silent(), items, "two_shot", wanted)


def test_positions_are_a_list_of_different_known_names() -> None:
    assert known_positions(["labels", "question_last"]) == ["last", "question_last", "labels"]
    assert known_positions([]) == ["last"]
    assert positions_of_prompt("open_two_shot", ALL) == ["last", "question_last", "question_mean"]
    assert positions_of_prompt("two_shot", ALL) == list(ALL)
    for positions, message in (
        ("last", "must be a list of different names of last, question_last, .* Got 'last'"),
        (["last", "last"], "must be a list of different names"),
        (["lables"], "unknown position 'lables'. Did you mean 'labels'"),
    ):
        with pytest.raises(ValueError, match=message):
            known_positions(positions)


# Capturing them


def run_of(checkpoint: Any, items: Any, path: Path, **settings: Any) -> Run:
    settings = {"chat": "never", "self_test": False, "progress": False, "batch_tokens": 300} | settings
    return extract(checkpoint, items, path, **settings)


def hidden_states(checkpoint: Any, ids: np.ndarray) -> list[torch.Tensor]:
    """The model's own hidden states ``[tokens, d]`` of one prompt by itself; the entry l + 1 leaves block l."""
    with torch.inference_mode():
        output = checkpoint.model(
            input_ids=torch.as_tensor(ids[None].astype(np.int64)), use_cache=False, output_hidden_states=True
        )
    return [state[0].double() for state in output.hidden_states]


def require_the_models_own(run: Run, checkpoint: Any, items: pd.DataFrame, layer: int = 1) -> None:
    """Every position of every row against the model run alone, at tokens that are found by decoding."""
    _, _, found = located(
        checkpoint.tokenizer,
        items,
        run.info["prompt"],
        tuple(run.positions),
        option_order=run.info["option_order"],
        permutations=run.info["permutations"],
    )
    kept = {position: run.residual(layer, position=position, per_row=True) for position in run.positions}
    for row, at in enumerate(found):
        state = hidden_states(checkpoint, run.token_ids(row))[layer + 1]
        np.testing.assert_allclose(kept["last"][row], state[-1], **TOLERANCE)
        if "question_last" in kept:
            np.testing.assert_allclose(kept["question_last"][row], state[at.question[1] - 1], **TOLERANCE)
        if "question_mean" in kept:
            np.testing.assert_allclose(kept["question_mean"][row], state[slice(*at.question)].mean(0), **TOLERANCE)
        if "labels" in kept:
            count = len(items["options"][int(run.rows["item"][row])])
            np.testing.assert_allclose(kept["labels"][row, :count], state[list(at.labels[:count])], **TOLERANCE)
            assert np.isnan(kept["labels"][row, count:]).all()


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "cohere", "falcon_h1"])
def test_every_position_equals_the_prompt_run_alone(
    family: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    run = run_of(tiny(family), items, tmp_path / "run.h5", positions=ALL, option_order=3)
    assert run.positions == list(ALL)
    assert (run.info["prefix_tokens"] > 0) == (family != "falcon_h1")
    require_the_models_own(run, tiny(family), items)
    run.verify()


def test_rotations_average_each_original_option(tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path) -> None:
    run = run_of(tiny("llama"), items, tmp_path / "run.h5", positions=ALL, permutations="cyclic", prompt="moore2025")
    require_the_models_own(run, tiny("llama"), items)
    labels, per_row = run.residual(2, position="labels"), run.residual(2, position="labels", per_row=True)
    assert labels.shape == (6, 4, 32)
    assert len(per_row) == 18
    for item, options in enumerate(items["options"]):
        rows = np.flatnonzero(run.rows["item"] == item)
        np.testing.assert_allclose(
            labels[item, : len(options)], per_row[rows, : len(options)].mean(0), rtol=1e-5, atol=1e-6
        )
        assert np.isnan(labels[item, len(options) :]).all()
    means = run.residual(2, position="question_mean")
    assert means.shape == (6, 32)


def alike(kind: str) -> pd.DataFrame:
    """Questions that begin alike, or are all the same with the same first option."""
    endings = ["old", "of music", "a city", "the first king", "great"]
    questions = [f"Which river of the old king is {ending}?" for ending in endings]
    same = kind == "labels"
    frame = pd.DataFrame(
        {
            "id": [f"q{number}" for number in range(5)],
            "question": [questions[0]] * 5 if same else questions,
            "options": [["the same first option", *([ending] * 1), f"{ending} city"] for ending in endings],
        }
    )
    frame.attrs["name"] = "alike"
    return frame


@pytest.mark.parametrize(
    ("position", "family"), [("question_mean", "llama"), ("labels", "llama"), ("labels", "mistral")]
)
def test_the_shared_prefix_ends_before_what_is_to_be_kept(
    position: str, family: str, tiny: Callable[..., Any], tmp_path: Path
) -> None:
    items, checkpoint = alike(position), tiny(family)
    whole = run_of(checkpoint, items, tmp_path / "last.h5")
    shared = common_prefix_length([whole.token_ids(row).tolist() for row in range(5)])
    assert whole.info["prefix_tokens"] == shared
    run = run_of(checkpoint, items, tmp_path / "run.h5", positions=[position])
    _, _, found = located(checkpoint.tokenizer, items, "two_shot", ("last", position))
    assert run.info["prefix_tokens"] == min(at.first() for at in found) < shared
    assert run.info["path"] == "shared prefix"
    require_the_models_own(run, checkpoint, items)
    np.testing.assert_allclose(run.residual(3), whole.residual(3), **TOLERANCE)


def test_a_token_too_early_to_share_anything_takes_the_plain_path_by_name(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("llama")
    reader = SiteReader(checkpoint, ["resid_post"], [0], ["question_last"])
    ids = [[5] * 20 + [6 + row] for row in range(3)]
    at = [PromptPositions(20, question=(4 + row, 9)) for row in range(3)]
    assert Forwarder(checkpoint, ids, reader, positions=at).path == "plain: token 4 is to be kept"
    late = [PromptPositions(20, question=(12 + row, 19)) for row in range(3)]
    assert Forwarder(checkpoint, ids, reader, positions=late).prefix_tokens == 12


def test_batches_padding_and_halved_batches_change_nothing(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, settings = tiny("mistral"), {"positions": ALL, "sites": ["resid_post", "mlp_out"]}
    alone = run_of(checkpoint, items, tmp_path / "alone.h5", batch_tokens=1, share_prefix=False, **settings)
    together = run_of(checkpoint, items, tmp_path / "together.h5", batch_tokens=4096, **settings)
    right = Forwarder._run

    def at_most_one(self: Forwarder, batch: Any, continuations: Any) -> Any:
        if len(batch.rows) > 1:
            raise torch.OutOfMemoryError("too much")
        return right(self, batch, continuations)

    monkeypatch.setattr(Forwarder, "_run", at_most_one)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    halved = run_of(checkpoint, items, tmp_path / "halved.h5", batch_tokens=4096, **settings)
    assert halved.info["memory_splits"] > 0
    for position in ALL:
        for site in settings["sites"]:
            expected = alone.residual(2, site, position)
            for run in (together, halved):
                np.testing.assert_allclose(run.residual(2, site, position), expected, **TOLERANCE)


def test_open_prompts_keep_the_question_and_refuse_labels(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    run = run_of(
        tiny("llama"), items, tmp_path / "run.h5", prompt="open_two_shot", positions=["question_last", "question_mean"]
    )
    assert run.positions == ["last", "question_last", "question_mean"]
    require_the_models_own(run, tiny("llama"), items)
    with pytest.raises(ValueError, match="must not name labels for the prompt 'open_two_shot'"):
        run_of(tiny("llama"), items, tmp_path / "other.h5", prompt="open_two_shot", positions=ALL)
    assert not (tmp_path / "other.h5.partial").exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_means_of_sixteen_bit_models_are_kept_in_float32(
    dtype: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = tiny("llama", dtype)
    run = run_of(checkpoint, items, tmp_path / "run.h5", positions=ALL, share_prefix=False, batch_tokens=1)
    _, _, found = located(checkpoint.tokenizer, items, "two_shot")
    with h5py.File(run.path, "r") as file:
        assert file["residual_at/question_mean/resid_post"].dtype == np.float32
        assert file["residual_at/labels/resid_post"].id.get_type().get_size() == 2
        assert file["residual_at/labels/resid_post"].shape == (6, 4, 4, 32)
    for row, at in enumerate(found):
        # One row per batch and no prefix: the very same computation, so the very same bits.
        state = hidden_states(checkpoint, run.token_ids(row))[2]
        np.testing.assert_array_equal(run.residual(1, position="question_last")[row], state[at.question[1] - 1])
        count = len(items["options"][row])
        np.testing.assert_array_equal(run.residual(1, position="labels")[row, :count], state[list(at.labels[:count])])
        mean = run.residual(1, position="question_mean")[row]
        np.testing.assert_allclose(mean, state[slice(*at.question)].mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.bridge
@pytest.mark.parametrize("family", ["gemma3", "granite", "gpt_neox"])
def test_the_self_test_compares_every_position_with_both_references(
    family: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"positions": ALL, "sites": ["resid_post", "attn_out"], "self_test": True}
    outcome = run_of(tiny(family), items, tmp_path / "run.h5", **settings).info["self_test"]
    names = {"resid_post", "attn_out"}
    names |= {f"{site} at {position}" for site in names for position in ALL[1:]}
    for reference in ("alone", "bridge"):
        assert set(outcome[reference]) == names | {"logits"}
        assert all(0 <= error < outcome["tolerance"] for error in outcome[reference].values())


def test_the_self_test_stops_a_run_whose_positions_are_wrong(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Forwarder._run

    def one_token_early(self: Forwarder, batch: Any, continuations: Any) -> Any:
        kept = self.positions
        self.positions = [
            dataclasses.replace(at, labels=tuple(max(-1, label - 1) for label in at.labels)) for at in kept
        ]
        try:
            return right(self, batch, continuations)
        finally:
            self.positions = kept

    monkeypatch.setattr(Forwarder, "_run", one_token_early)
    with pytest.raises(SelfTestError, match="captured resid_post at labels differ from the reference 'alone' by"):
        run_of(tiny("llama"), items, tmp_path / "run.h5", positions=["labels"], self_test="alone")


def test_another_choice_of_positions_is_another_run(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    before = run_of(tiny("llama"), items, path, positions=["labels", "last"])
    assert run_of(tiny("llama"), items, path, positions=["labels"]).info == before.info
    with pytest.raises(ValueError, match=r'made with positions = \["last", "labels"\], and positions = \["last"\] is'):
        run_of(tiny("llama"), items, path)
    assert run_of(tiny("llama"), items, path, overwrite=True).positions == ["last"]


def test_a_run_from_before_there_were_positions_is_taken_as_it_is(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    last = run_of(tiny("llama"), items, path).residual(2)
    with h5py.File(path, "r+") as file:
        info = json.loads(file["info"].asstr()[()])
        assert info.pop("positions") == ["last"]
        del file["info"]
        write_text(file, "info", json.dumps(info))
    old = run_of(tiny("llama"), items, path)
    assert "positions" not in old.info
    assert old.positions == open_run(path).positions == ["last"]
    np.testing.assert_array_equal(old.residual(2, position="last"), last)
    with pytest.raises(ValueError, match=r'made with positions = \["last"\], and positions = \["last", "labels"\] is'):
        run_of(tiny("llama"), items, path, positions=["labels"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; the CPU twins above test the same code")
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "cohere"])
def test_positions_on_a_gpu_equal_those_on_the_cpu(
    family: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    from copy import deepcopy

    from doubtlens.extract.checkpoints import Checkpoint

    moved = Checkpoint(deepcopy(tiny(family).model).cuda(), tokenizer, "gpu", "gpu")
    settings: dict[str, Any] = {"positions": ALL, "sites": ["resid_post", "attn_out", "mlp_out"]}
    here = run_of(tiny(family), items, tmp_path / "cpu.h5", **settings)
    there = run_of(moved, items, tmp_path / "gpu.h5", self_test="alone", **settings)
    for position in ALL:
        for site in settings["sites"]:
            expected = here.residual(3, site, position)
            np.testing.assert_allclose(there.residual(3, site, position), expected, rtol=2e-3, atol=2e-3)
