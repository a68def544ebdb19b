import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from doubtlens.extract.datasets import load_items
from doubtlens.extract.labels import (
    LabelTokenError,
    SeamError,
    continuation_tokens,
    continuations_tokens,
    single_label_tokens,
    variant_label_tokens,
)
from doubtlens.extract.prompts import render_prompts

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
PLAIN = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Every letter is seen alone, as " A", in "A." and in "(A)".
CORPUS = [f"Answer: {letter}\n{letter}. one (of) {letter}) ({letter}) {letter.lower()} item\n" for letter in LETTERS]
CORPUS *= 20
CORPUS += [f"Question: {text}\nAnswer:" for text in load_items("knowledge")["question"].head(100)]


def wrap(backend, template=PLAIN):
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
    )


@pytest.fixture(scope="module")
def byte_level():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<unk>"]
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrap(backend)


@pytest.fixture(scope="module")
def metaspace():
    """The way of Llama-2: a space is a character of its own, and one is put before every text."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    backend.train_from_iterator(
        [line for text in CORPUS for line in text.splitlines()],
        trainers.BpeTrainer(vocab_size=1200, special_tokens=["<s>", "</s>", "<unk>", *bytes_], show_progress=False),
    )
    backend.pre_tokenizer = None
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrap(backend)


@pytest.fixture(scope="module", params=["byte_level", "metaspace"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def surfaces(tokenizer):
    """What each token adds to a text, found by decoding it after another one; byte tokens are no spellings."""
    anchor = tokenizer.convert_tokens_to_ids("x")
    before = len(tokenizer.decode([anchor]))
    tokens = {token for name, token in tokenizer.get_vocab().items() if not name.startswith("<0x")}
    return {token: tokenizer.decode([anchor, token])[before:] for token in tokens}


def test_label_after_a_colon_is_the_token_with_the_space(byte_level):
    tokens = single_label_tokens(byte_level, "Question: Which?\nAnswer:", ["A", "B"], " ", True)
    assert byte_level.convert_ids_to_tokens(tokens) == ["ĠA", "ĠB"]


def test_label_after_a_generation_prompt_is_the_bare_letter(byte_level):
    tokens = single_label_tokens(byte_level, "<s><|assistant|>\n", ["A", "B"], "", False)
    assert byte_level.convert_ids_to_tokens(tokens) == ["A", "B"]


def test_label_alone_would_be_another_token_under_metaspace(metaspace):
    tokens = single_label_tokens(metaspace, "Which of these)", ["A", "B"], "", True)
    assert metaspace.convert_ids_to_tokens(tokens) == ["A", "B"]
    assert metaspace.convert_ids_to_tokens(metaspace("A", add_special_tokens=False)["input_ids"]) == ["▁A"]
    spaced = single_label_tokens(metaspace, "Answer:", ["A", "B"], " ", True)
    assert metaspace.convert_ids_to_tokens(spaced) == ["▁A", "▁B"]


@pytest.mark.parametrize("chat", ["never", "always"])
@pytest.mark.parametrize("prompt", ["moore2025", "two_shot"])
def test_labels_are_the_only_tokens_that_write_them(tokenizer, prompt, chat):
    # The oracle decodes: of all tokens of the vocabulary, the one that lengthens the prompt by prefix and label.
    items = load_items("opinions").head(4)
    rendered = render_prompts(items, prompt, tokenizer=tokenizer, chat=chat)
    written = surfaces(tokenizer)
    for row in rendered.rows:
        tokens = single_label_tokens(tokenizer, row.text, row.labels, row.label_prefix, rendered.add_bos)
        for label, token in zip(row.labels, tokens, strict=True):
            wanted = row.label_prefix + label
            assert [other for other, text in written.items() if text == wanted] == [token]


def test_continuation_is_what_starts_at_the_end_of_the_prompt(tokenizer):
    # The oracle goes by the characters each token covers.
    items = load_items("knowledge").head(20)
    rendered = render_prompts(items, "open_two_shot", tokenizer=tokenizer)
    for row in rendered.rows:
        several = continuations_tokens(tokenizer, row.text, row.continuations, rendered.add_bos)
        for continuation, tokens in zip(row.continuations, several, strict=True):
            full = tokenizer(row.text + continuation, add_special_tokens=True, return_offsets_mapping=True)
            pairs = zip(full["input_ids"], full["offset_mapping"], strict=True)
            assert tokens == [token for token, (start, _) in pairs if start >= len(row.text)]
            assert tokens == continuation_tokens(tokenizer, row.text, continuation, True)
            assert tokenizer.decode(tokens).strip() == continuation.strip()


def test_continuation_counts_by_hand(byte_level):
    tokens = continuation_tokens(byte_level, "Answer:", " item A.", True)
    assert byte_level.convert_ids_to_tokens(tokens) == ["Ġitem", "ĠA", "."]


def test_variants_are_all_single_token_spellings(tokenizer):
    written = surfaces(tokenizer)
    for label, tokens in zip(LETTERS, variant_label_tokens(tokenizer, LETTERS), strict=True):
        spellings = {label, label.lower(), f"{label}.", f"{label})", f"{label}:", f"({label})"}
        wanted = {token for token, text in written.items() if text.removeprefix(" ") in spellings}
        assert set(tokens) == wanted
        assert len(tokens) == len(set(tokens)) >= 4
        assert list(tokens) == sorted(tokens)


def test_variants_by_hand():
    names = ["<s>", "</s>", "<unk>", "A", "ĠA", "a", "A.", "Ġ(A)", "A)", "AB", "Ġa", "B", "x", "ĠĠA"]
    vocabulary = {name: index for index, name in enumerate(names)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.decoder = decoders.ByteLevel()
    assert variant_label_tokens(wrap(backend), ["A", "B"]) == [(3, 4, 5, 6, 7, 8, 10), (11,)]


def test_a_token_claimed_by_two_labels_serves_neither():
    names = ["<s>", "</s>", "<unk>", "A", "ĠA", "a", "Ġa", "a.", "A."]
    backend = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    backend.decoder = decoders.ByteLevel()
    # "A" may be written as tokens 3, 4, 5, 6, 8 and "a" as 5, 6, 7.
    assert variant_label_tokens(wrap(backend), ["A", "a"]) == [(3, 4, 8), (7,)]
    with pytest.raises(LabelTokenError, match=r"spelling of their own\. Got 'A', which has none"):
        variant_label_tokens(wrap(backend), ["A", "A"])


def test_a_label_of_several_tokens_is_refused(byte_level):
    with pytest.raises(LabelTokenError, match=r"Got 'Yes or no', which .* writes as \[.*\]\. Use the scoring"):
        single_label_tokens(byte_level, "Answer:", ["A", "Yes or no"], " ", True)


def test_a_tokenizer_without_letters_is_refused():
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "Answer:": 3, "A": 4}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = wrap(backend)
    assert single_label_tokens(tokenizer, "Answer:", ["A"], " ", False) == [4]
    with pytest.raises(LabelTokenError, match=r"Got 'B', which .* writes as \['<unk>'\]"):
        single_label_tokens(tokenizer, "Answer:", ["A", "B"], " ", False)
    with pytest.raises(LabelTokenError, match=r"Got 'B', which has none in the vocabulary"):
        variant_label_tokens(tokenizer, ["A", "B"])


def test_labels_that_share_a_token_are_refused():
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "answer:": 3, "a": 4}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(LabelTokenError, match="Got the token 4 for both 'A' and 'a'"):
        single_label_tokens(wrap(backend), "Answer:", ["A", "a"], " ", False)


def test_a_prompt_that_melts_into_the_label_is_refused():
    vocabulary = {name: index for index, name in enumerate(["<s>", "</s>", "<unk>", "x", ":", "A", ":A", " "])}
    tokenizer = wrap(Tokenizer(models.BPE(vocab=vocabulary, merges=[(":", "A")], unk_token="<unk>")))
    assert single_label_tokens(tokenizer, "x: ", ["A"], "", False) == [5]
    with pytest.raises(SeamError, match=r"stay the same when 'A' follows\. Got \[':A'\] instead of \[':'\]"):
        single_label_tokens(tokenizer, "x:", ["A"], "", False)
    with pytest.raises(SeamError, match="add_eos_token=False"):
        continuation_tokens(tokenizer, "x:", "A", False)


def test_a_continuation_without_tokens_is_refused(byte_level):
    with pytest.raises(SeamError, match="when '' follows"):
        continuation_tokens(byte_level, "Answer:", "", True)


def test_a_tokenizer_that_closes_every_text_is_refused():
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "Answer:": 3, "A": 4}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "removed")
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = wrap(backend)
    assert continuation_tokens(tokenizer, "Answer:", " A", False) == [4]
    with pytest.raises(SeamError, match="closes every text with an end token needs add_eos_token=False"):
        continuation_tokens(tokenizer, "Answer:", " A", True)
