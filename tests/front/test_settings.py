"""Study files: what is read, and what each mistake is answered with."""

import pytest
import yaml

from doubtlens.settings import Study
from doubtlens.settings_file import SettingsError, load_study, packaged_studies

GOOD = """\
name: a study
output: out
checkpoints: [org/model]
questions:
  - items: knowledge
    prompt: two_shot
"""


def write(folder, text):
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder, text):
    with pytest.raises(SettingsError) as caught:
        load_study(write(folder, text))
    return str(caught.value).replace(f"{folder}/", "")


def test_shorthands_and_defaults(tmp_path):
    study = load_study(write(tmp_path, GOOD))
    assert study.checkpoints[0].id == "org/model"
    assert study.checkpoints[0].display_name == "model"
    question = study.questions[0]
    assert (question.items.source, question.chat, question.option_order) == ("knowledge", "auto", "given")
    assert (study.seed, study.capture.layers, study.capture.sites) == (0, "all", ["resid_post"])
    assert study.capture.positions == ["last"]
    assert study.analysis.nuclei == ["inclusive"]


def test_everything_spelled_out(tmp_path):
    text = """
name: full
output: out
seed: 7
checkpoints:
  - {id: org/model, name: mine, revision: abc, dtype: bfloat16, device: cpu, trust_remote_code: true}
questions:
  - items: {source: q.csv, name: mine, columns: {question: stem, options: [a, b]}}
    prompt: moore2025
    chat: always
    option_order: 3
    permutations: cyclic
    limit: 20
capture: {sites: [resid_pre, resid_post], layers: [0, 5], logits: summary, batch_tokens: 512}
probes: {enabled: false, targets: [correct], n_splits: 5, n_permutations: 20}
analysis: {n_bootstrap: 100, measures: [total_entropy], nuclei: [exclusive], scorings: [text_sum]}
"""
    study = load_study(write(tmp_path, text))
    assert study.checkpoints[0].display_name == "mine"
    assert study.questions[0].items.columns == {"question": "stem", "options": ["a", "b"]}
    assert study.capture.layers == [0, 5]
    again = load_study(yaml.safe_load(text))
    assert again == study
    assert Study.model_validate(study.model_dump(mode="json")) == study


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("org/Model-1.5B", "Model-1.5B"),
        ("folder/of/model/", "model"),
        ("folder/model-q8.gguf", "model-q8"),
        ("Model-1.5B", "Model-1.5B"),
    ],
)
def test_display_name(checkpoint, name):
    study = load_study(yaml.safe_load(GOOD) | {"checkpoints": [checkpoint]})
    assert study.checkpoints[0].display_name == name


def test_unknown_key_names_file_line_and_nearest(tmp_path):
    message = refusal(tmp_path, GOOD.replace("    prompt: two_shot", "    promt: two_shot"))
    assert "study.yaml, line 6: `questions[0].promt` is not a setting. Did you mean 'prompt'?" in message
    assert "study.yaml, line 5: `questions[0].prompt` is missing." in message


def test_all_problems_at_once_in_the_order_of_lines(tmp_path):
    message = refusal(tmp_path, GOOD.replace("a study", "''") + "capture: {logits: ful}\nsed: 1\n")
    assert [line.split(":")[0] for line in message.splitlines()] == [
        "study.yaml, line 1",
        "study.yaml, line 7",
        "study.yaml, line 8",
    ]


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("seed: -1", "`seed` must be at least 0. Got -1 instead."),
        ("seed: 1.5", "`seed` must be a whole number. Got 1.5 instead."),
        ("seed: true", "`seed` must be a whole number. Got True instead."),
        ("seed: '1'", "`seed` must be a whole number. Got '1' instead."),
        ("capture: {logits: ful}", "`capture.logits` must be one of 'full' or 'summary'. Got 'ful' instead."),
        ("capture: {sites: resid_post}", "`capture.sites` must be a list. Got 'resid_post' instead."),
        ("capture: {sites: []}", "`capture.sites` must not be empty. Got [] instead."),
        ("capture: {sites: [resid_post, attn]}", "`capture.sites[1]` must be one of 'resid_pre'"),
        ("capture: {positions: [last, label]}", "`capture.positions[1]` must be one of 'last', 'question_last'"),
        ("capture: {layers: -1}", "`capture.layers` must be 'all' or a list of layer numbers"),
        ("capture: {layers: [1, 1]}", "`capture.layers` must name each layer once"),
        ("capture: {batch_tokens: 0}", "`capture.batch_tokens` must be 'auto' or a whole number of at least 1"),
        ("capture: 3", "`capture` must be a mapping of keys and values. Got 3 instead."),
        ("probes: {n_splits: 1}", "`probes.n_splits` must be at least 2. Got 1 instead."),
        ("probes: {enabled: 'no'}", "`probes.enabled` must be true or false. Got 'no' instead."),
        ("probes: {target: [correct]}", "`probes.target` is not a setting. Did you mean 'targets'?"),
        ("analysis: {nuclei: [inclusiv]}", "`analysis.nuclei[0]` must be one of 'inclusive' or 'exclusive'"),
        ("zzz: 1", "`zzz` is not a setting. Settings here: name, output"),
    ],
)
def test_bad_section(tmp_path, addition, message):
    assert f"study.yaml, line 7: {message}" in refusal(tmp_path, GOOD + addition + "\n")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("{base: m, instruct: n-it}", "Got the base 'm' instead"),
        ("{base: model, instruct: model-itt}", "Got the instruct 'model-itt' instead. Did you mean 'model-it'?"),
        ("{base: model, instruct: model}", "a pair must be two checkpoints. Got 'model' as base and as instruct."),
        ("{base: model, instruct: model-it}, {base: model, instruct: other}", "two pairs would both be called 'model'"),
        ("{base: model}", "`pairs[0].instruct` is missing."),
        ("{base: model, tuned: model-it}", "`pairs[0].tuned` is not a setting."),
    ],
)
def test_bad_pairs(tmp_path, pairs, message):
    text = GOOD.replace("[org/model]", "[org/model, org/model-it, org/other]") + f"pairs: [{pairs}]\n"
    assert message in refusal(tmp_path, text)


def test_pairs_are_named_after_the_base(tmp_path):
    text = GOOD.replace("[org/model]", "[org/model, org/model-it, org/other]")
    text += "pairs: [{base: model, instruct: model-it}, {base: model, instruct: other, name: second}]\n"
    study = load_study(write(tmp_path, text))
    assert [pair.display_name for pair in study.pairs] == ["model", "second"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("checkpoints: [org/model]", "checkpoints: []", "line 3: `checkpoints` must not be empty."),
        ("checkpoints: [org/model]", "checkpoints: org/model", "line 3: `checkpoints` must be a list."),
        ("checkpoints: [org/model]", "checkpoints: [{id: a/b, dtype: int8}]", "line 3: `checkpoints[0].dtype` must be"),
        ("checkpoints: [org/model]", "checkpoints: [{id: a/b, name: a/b}]", "`checkpoints[0].name` must be letters"),
        ("checkpoints: [org/model]", "checkpoints: [a/m, b/m]", "two checkpoints would both be called 'm'"),
        ("checkpoints: [org/model]", "", "line 1: `checkpoints` is missing. The models"),
        ("two_shot", "two_shot\n    limit: 1", "line 7: `questions[0].limit` must be at least 2."),
        ("two_shot", "two_shot\n    option_order: random", "line 7: `questions[0].option_order` must be 'given' or"),
        ("two_shot", "two_shot\n    option_order: true", "`questions[0].option_order` must be 'given' or a seed"),
        ("two_shot", "two_shot\n    chat: maybe", "`questions[0].chat` must be one of 'auto', 'always' or 'never'"),
        ("knowledge", "{source: x, colums: {}}", "line 5: `questions[0].items.colums` is not a setting. Did you mean"),
        ("knowledge", "{source: x, columns: {question: 3}}", "must map 'question' to a column name or a list of"),
    ],
)
def test_bad_values(tmp_path, old, new, message):
    assert message in refusal(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "study.yaml: the file is empty. A study needs `name`, `output`, `checkpoints`, `questions`."),
        ("name: [1", "line 1: this is not valid YAML"),
        ("name: a\n\toutput: b\n", "line 2: this is not valid YAML"),
        ("- name\n", "line 1: the study must be a mapping of keys and values. Got ['name'] instead."),
        (GOOD + "seed: 1\nseed: 2\n", "line 8: `seed` stands here twice."),
        (GOOD.replace("prompt:", "items: x\n    prompt:"), "line 6: `items` stands here twice."),
    ],
)
def test_broken_files(tmp_path, text, message):
    assert message in refusal(tmp_path, text)


def test_not_text(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(SettingsError, match="must be UTF-8 text"):
        load_study(path)


def test_mapping_is_named_in_errors():
    with pytest.raises(SettingsError, match=r"^the study: `seed` must be at least 0"):
        load_study(yaml.safe_load(GOOD) | {"seed": -1})


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file quikstart here.* Did you mean 'quickstart'\?"):
        load_study("quikstart")
    with pytest.raises(FileNotFoundError, match="ships a study of that name: say `quickstart` in place of the path"):
        load_study(tmp_path / "configs" / "quickstart.yaml")
    with pytest.raises(SettingsError, match="is a folder"):
        load_study(tmp_path)


@pytest.mark.parametrize("name", packaged_studies())
def test_packaged_studies_are_valid(name):
    study = load_study(name)
    assert study.name == name
    assert study.output == f"runs/{name}"


def test_packaged_studies_are_the_three():
    assert packaged_studies() == ["base_vs_instruct", "moore2025", "quickstart"]
    moore = load_study("moore2025")
    assert len(moore.checkpoints) == 10
    assert {checkpoint.dtype for checkpoint in moore.checkpoints} == {"bfloat16"}
    assert moore.capture.logits == "summary"
    assert {question.prompt for question in moore.questions} == {"moore2025"}
    quick = load_study("quickstart")
    assert [(question.items.source, question.prompt, question.chat) for question in quick.questions] == [
        ("knowledge", "two_shot", "never"),
        ("knowledge", "open_two_shot", "never"),
        ("opinions", "moore2025", "never"),
    ]


def every_field(section):
    from doubtlens.settings_file import _section_of

    for name, field in section.model_fields.items():
        yield f"{section.__name__}.{name}", field
        inner = _section_of(field.annotation)
        if inner is not None:
            yield from every_field(inner)


@pytest.mark.parametrize(("name", "field"), list(every_field(Study)))
def test_every_field_is_described(name, field):
    assert field.description, name
    assert field.description.endswith("."), name
