import re
from datetime import datetime

import jinja2
import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from doubtlens.extract import chat as chat_module
from doubtlens.extract.chat import FIXED_DATE, render_chat
from doubtlens.extract.datasets import load_items
from doubtlens.extract.examples import TWO_SHOT_EXAMPLES
from doubtlens.extract.prompts import LABELS, PROMPTS, render_prompts

PLAIN = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
REFUSING = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN
)
DROPPING = (
    "{% for message in messages %}{% if message['role'] != 'system' %}<|{{ message['role'] }}|>"
    "{{ message['content'] }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
DATED = (
    "{% macro today() %}{{ strftime_now('%A, %d %B %Y') }}{% endmacro %}"
    "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}"
    "Today is {{ day }} ({{ today() }}), {{ date_string }}.\n" + PLAIN
)
INSTRUCTION = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + "
    "'</s>' }}{% elif message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]{% else %}"
    "{{ raise_exception('only user and assistant turns') }}{% endif %}{% endfor %}"
)
LETTER_ONLY = "Answer with the letter of one option and nothing else."
BLOCK = "Question: Is it?\nA. yes\nB. no\nC. perhaps\nAnswer:"
EXAMPLES = (
    "Question: What do bees make from the nectar of flowers?\nA. Silk\nB. Honey\nC. Paper\nD. Pearls\nAnswer:",
    "Question: On which continent is Ghana?\nA. Asia\nB. Europe\nC. Africa\nD. South America\nAnswer:",
)


def make_tokenizer(template=None):
    alphabet = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    bos = tokenizer.bos_token_id
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    tokenizer._tokenizer.post_processor = backend.post_processor
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture
def items():
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "question": ["Is it?", "Left out?", "Which?"],
            "options": [["yes", "no", "perhaps"], ["x", "y"], ["p", "q"]],
            "excluded": [None, "a reason", None],
        }
    )
    return load_items(frame)


def test_moore2025_is_figure_1_to_the_letter(items):
    rendered = render_prompts(items, "moore2025")
    assert rendered.rows[0].text == (
        "Following is a question and a selection of answer choices. Provide the label for the answer with which you "
        "most agree.\n"
        "\n"
        "Question: Is it?\n"
        "    A. yes\n"
        "    B. no\n"
        "    C. perhaps\n"
        "\n"
        "Answer:"
    )


def test_two_shot_shows_two_answered_examples_and_asks(items):
    row = render_prompts(items, "two_shot").rows[0]
    assert row.text == f"{EXAMPLES[0]} B\n\n{EXAMPLES[1]} C\n\n{BLOCK}"
    assert (row.item, row.rotation, row.order) == (0, 0, (0, 1, 2))
    assert (row.labels, row.label_prefix, row.continuations) == (("A", "B", "C"), " ", ())


def test_open_two_shot_lists_no_option(items):
    rendered = render_prompts(items, "open_two_shot", option_order=5)
    row = rendered.rows[0]
    assert row.text == (
        "Question: What do bees make from the nectar of flowers?\nAnswer: Honey\n\n"
        "Question: On which continent is Ghana?\nAnswer: Africa\n\n"
        "Question: Is it?\nAnswer:"
    )
    assert row.continuations == (" yes", " no", " perhaps")
    assert row.labels == ()
    assert rendered.scorings == ("text_sum", "text_mean")
    assert not rendered.lists_options


def test_what_is_recorded_of_a_rendering(items):
    rendered = render_prompts(items, "two_shot")
    assert [row.item for row in rendered.rows] == [0, 2]
    assert (rendered.prompt, rendered.chat, rendered.setting) == ("two_shot", False, "choice")
    assert rendered.scorings == ("label_single", "label_variants")
    assert rendered.add_bos
    assert re.fullmatch("[0-9a-f]{64}", rendered.hash)


def test_the_examples_point_to_no_letter_and_are_no_items():
    letters = [example.answer for example in TWO_SHOT_EXAMPLES]
    assert len(set(letters)) == len(letters) == 2
    asked = " ".join(pd.concat([load_items("knowledge"), load_items("opinions")])["question"]).casefold()
    for word in ("ghana", "nectar", "honey"):
        assert word not in asked


def test_26_options_are_labelled_a_to_z():
    options = [f"option {index}" for index in range(26)]
    items = pd.DataFrame({"question": ["Which?"], "options": [options]})
    row = render_prompts(items, "moore2025").rows[0]
    assert row.labels == LABELS == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert "    Z. option 25\n\nAnswer:" in row.text


def test_cyclic_permutations_give_every_rotation(items):
    rows = render_prompts(items, "two_shot", permutations="cyclic").rows
    assert [(row.item, row.rotation, row.order) for row in rows] == [
        (0, 0, (0, 1, 2)),
        (0, 1, (1, 2, 0)),
        (0, 2, (2, 0, 1)),
        (2, 0, (0, 1)),
        (2, 1, (1, 0)),
    ]
    assert rows[1].text.endswith("Is it?\nA. no\nB. perhaps\nC. yes\nAnswer:")


def test_shuffled_order_depends_on_seed_and_id_alone():
    knowledge = load_items("knowledge")
    whole = {row.item: row for row in render_prompts(knowledge, "two_shot", option_order=7).rows}
    part = knowledge.iloc[100:140].reset_index(drop=True)
    for row in render_prompts(part, "moore2025", option_order=7).rows:
        assert row.order == whole[row.item + 100].order
    other = render_prompts(knowledge, "two_shot", option_order=8).rows
    assert sum(row.order != whole[row.item].order for row in other) > 300
    # Uniform over positions: 419 items, so 105 +- 9 with the first option in each of the four places.
    firsts = [row.order.index(0) for row in whole.values()]
    assert all(70 < firsts.count(place) < 140 for place in range(4))


def test_shuffled_text_shows_the_options_in_that_order(items):
    rotated = render_prompts(items, "two_shot", option_order=3, permutations="cyclic").rows
    texts = items.loc[0, "options"]
    for row in rotated[:3]:
        listed = "\n".join(f"{label}. {texts[index]}" for label, index in zip("ABC", row.order, strict=True))
        assert row.text.endswith(f"Is it?\n{listed}\nAnswer:")
    assert sorted(row.order for row in rotated[:3]) in (
        [(0, 1, 2), (1, 2, 0), (2, 0, 1)],
        [(0, 2, 1), (1, 0, 2), (2, 1, 0)],
    )


def test_shuffle_is_frozen():
    # A change of these orders would change every stored run made with a seed.
    items = pd.DataFrame({"id": ["q1", "q2"], "question": ["?", "?"], "options": [list("abcd"), list("abcd")]})
    orders = [row.order for row in render_prompts(items, "two_shot", option_order=0).rows]
    assert orders == [(3, 2, 0, 1), (2, 1, 0, 3)]


def test_hash_changes_with_what_is_asked_or_scored(items):
    def hash_of(frame, prompt="two_shot", **settings):
        return render_prompts(frame, prompt, **settings).hash

    renamed = items.assign(options=[["yes", "no", "never"], ["x", "y"], ["p", "q"]])
    hashes = [
        hash_of(items),
        hash_of(renamed),
        hash_of(items, "moore2025"),
        hash_of(items, permutations="cyclic"),
        hash_of(items, "open_two_shot"),
        hash_of(renamed, "open_two_shot"),
        hash_of(items, tokenizer=make_tokenizer(PLAIN), chat="always"),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hash_of(items) == hash_of(items.copy())


def test_chat_form_has_system_turn_examples_as_turns_and_generation_prompt(items):
    rendered = render_prompts(items, "two_shot", tokenizer=make_tokenizer(PLAIN), chat="always")
    row = rendered.rows[0]
    assert row.text == (
        f"<s><|system|>\n{LETTER_ONLY}\n"
        f"<|user|>\n{EXAMPLES[0]}\n<|assistant|>\nB\n"
        f"<|user|>\n{EXAMPLES[1]}\n<|assistant|>\nC\n"
        f"<|user|>\n{BLOCK}\n<|assistant|>\n"
    )
    assert row.label_prefix == ""
    assert rendered.chat


def test_moore2025_in_chat_form_is_one_user_turn(items):
    row = render_prompts(items, "moore2025", tokenizer=make_tokenizer(PLAIN), chat="always").rows[0]
    alone = render_prompts(items, "moore2025").rows[0].text
    assert row.text == f"<s><|system|>\n{LETTER_ONLY}\n<|user|>\n{alone}\n<|assistant|>\n"


def test_open_prompt_in_chat_form_answers_with_option_texts(items):
    row = render_prompts(items, "open_two_shot", tokenizer=make_tokenizer(PLAIN), chat="always").rows[0]
    assert row.text.endswith(
        "<|user|>\nOn which continent is Ghana?\n<|assistant|>\nAfrica\n<|user|>\nIs it?\n<|assistant|>\n"
    )
    assert row.continuations == ("yes", "no", "perhaps")


@pytest.mark.parametrize("template", [REFUSING, DROPPING], ids=["refusing", "dropping"])
def test_system_text_moves_into_the_first_user_turn(items, template):
    tokenizer = make_tokenizer(template)
    text = render_prompts(items, "two_shot", tokenizer=tokenizer, chat="always").rows[0].text
    first_turn = f"{LETTER_ONLY}\n\n{EXAMPLES[0]}"
    assert text.count(LETTER_ONLY) == 1
    assert re.search(r"<\|user\|>\n?" + re.escape(first_turn), text)
    assert "<|system|>" not in text


def test_prefix_of_the_answer_is_the_templates_own(items):
    tokenizer = make_tokenizer(INSTRUCTION)
    row = render_prompts(items, "two_shot", tokenizer=tokenizer, chat="always").rows[0]
    assert row.text.endswith("Answer: [/INST]")
    assert row.label_prefix == " "
    opened = render_prompts(items, "open_two_shot", tokenizer=tokenizer, chat="always").rows[0]
    assert opened.continuations == (" yes", " no", " perhaps")


def test_white_space_other_than_one_space_closes_the_prompt(items):
    template = PLAIN.replace("<|assistant|>\n{% endif %}", "<|assistant|>{% endif %}")
    row = render_prompts(items, "two_shot", tokenizer=make_tokenizer(template), chat="always").rows[0]
    assert row.text.endswith("<|assistant|>\n")
    assert row.label_prefix == ""


@pytest.mark.parametrize(("template", "in_text"), [(PLAIN, True), (DROPPING, False)], ids=["written", "added"])
@pytest.mark.parametrize("prompt", list(PROMPTS))
def test_exactly_one_bos(items, template, in_text, prompt):
    tokenizer = make_tokenizer(template)
    for mode, written in (("always", in_text), ("never", False)):
        rendered = render_prompts(items, prompt, tokenizer=tokenizer, chat=mode)
        assert rendered.add_bos is not written
        ids = tokenizer(rendered.rows[0].text, add_special_tokens=rendered.add_bos)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


def test_prompts_are_the_same_on_two_days(items, monkeypatch):
    tokenizer = make_tokenizer(DATED)
    naive, ours = [], []
    for day in (datetime(2026, 1, 2), datetime(2031, 12, 30)):

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None, day=day):
                return day

        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)
        message = [{"role": "user", "content": "Hello"}]
        naive.append(tokenizer.apply_chat_template(message, tokenize=False))
        ours.append(render_prompts(items, "two_shot", tokenizer=tokenizer, chat="always"))
    assert naive[0] != naive[1]
    assert ours[0].hash == ours[1].hash
    assert ours[0].rows[0].text.startswith(f"Today is {FIXED_DATE} (Friday, 26 July 2024), {FIXED_DATE}.\n")


def test_fixed_date_agrees_with_strftime():
    noon = datetime(2024, 7, 26, 12)
    tokenizer = make_tokenizer()
    for directive in chat_module._DIRECTIVES:
        tokenizer.chat_template = "{{ strftime_now('" + directive + "') }}"
        assert render_chat(tokenizer, [{"role": "user", "content": ""}]) == noon.strftime(directive)


@pytest.mark.parametrize("start", ["", "\n", "  ", "\n  \n"])
def test_fixing_the_date_keeps_the_templates_own_white_space(start):
    tokenizer = make_tokenizer(start + "{% for message in messages %}\n  {{ message['content'] }}\n{% endfor %}\nend")
    messages = [{"role": "user", "content": "Hello"}]
    assert render_chat(tokenizer, messages) == tokenizer.apply_chat_template(messages, tokenize=False)


def test_chat_auto_follows_the_tokenizer(items):
    assert not render_prompts(items, "two_shot", tokenizer=make_tokenizer(), chat="auto").chat
    assert render_prompts(items, "two_shot", tokenizer=make_tokenizer(PLAIN), chat="auto").chat
    assert not render_prompts(items, "two_shot", tokenizer=make_tokenizer(PLAIN), chat="never").chat


def test_reasoning_is_switched_off(items):
    template = PLAIN + "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"
    row = render_prompts(items, "two_shot", tokenizer=make_tokenizer(template), chat="always").rows[0]
    assert row.text.endswith("<|assistant|>\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "twoshot"}, r"prompt parameter of render_prompts must be one of .* Did you mean 'two_shot'\?"),
        ({"chat": "allways"}, r"chat parameter .* Got 'allways' instead\. Did you mean 'always'\?"),
        ({"permutations": "cylic"}, r"permutations parameter .* Did you mean 'cyclic'\?"),
        ({"prompt": "open_two_shot", "permutations": "cyclic"}, r'must be "none" for \'open_two_shot\''),
        ({"option_order": "random"}, r'option_order .* must be "given" or a seed of at least 0\. Got \'random\''),
        ({"option_order": -1}, r"option_order .* Got -1"),
        ({"option_order": True}, r"option_order .* Got True"),
        ({"chat": "auto"}, r'tokenizer parameter .* must be given for chat="auto"'),
        ({"chat": "always", "tokenizer": make_tokenizer()}, r"must have a chat template .* which has none"),
    ],
)
def test_bad_settings_are_refused(items, settings, message):
    with pytest.raises(ValueError, match=message):
        render_prompts(items, settings.pop("prompt", "two_shot"), **settings)


def test_a_template_that_refuses_everything_is_named(items):
    tokenizer = make_tokenizer("{{ raise_exception('no chats today') }}")
    with pytest.raises(ValueError, match=r"roles .*'user'.* Got no chats today instead\. Use chat=\"never\"") as caught:
        render_prompts(items, "two_shot", tokenizer=tokenizer, chat="always")
    assert isinstance(caught.value.__cause__, jinja2.TemplateError)


def test_nothing_to_ask_is_refused(items):
    with pytest.raises(ValueError, match="must hold an item that is not excluded"):
        render_prompts(items.iloc[1:2], "two_shot")


def test_items_are_validated_before_they_are_asked():
    with pytest.raises(ValueError, match="options must be 2 to 26 strings"):
        render_prompts(pd.DataFrame({"question": ["?"], "options": [["only"]]}), "two_shot")
