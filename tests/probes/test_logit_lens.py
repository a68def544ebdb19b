"""The logit lens against the run itself at the last layer, and against models cut off after earlier ones."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from doubtlens.extract import extract, load_checkpoint
from doubtlens.extract import readout as readout_module
from doubtlens.extract.store import Run, open_run
from doubtlens.probes import human_targets, logit_lens, output_measures
from doubtlens.probes.layers import choices, correctness

LAST = 3
# float32 rounding of another batch shape.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    words = ["river", "music", "old", "king", "which", "city", "name", "great"]
    records = []
    for number in range(9):
        count = 2 + number % 3
        records.append(
            {
                "id": f"q{number}",
                "question": " ".join(rng.choice(words, 2 + number % 4)) + "?",
                "options": [f"{rng.choice(words)} {place}" for place in range(count)],
                "answer": None if number == 4 else number % count,
                "responses": rng.integers(1, 30, count).astype(float).tolist(),
                "excluded": "for the test" if number == 2 else None,
            }
        )
    frame = pd.DataFrame(records)
    frame.attrs["name"] = "made"
    return frame


@pytest.fixture(scope="module")
def run_of(items: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A run of a checkpoint; made once for the same settings."""
    made: dict[str, Path] = {}

    def make(checkpoint: Any, **settings: Any) -> Run:
        key = f"{checkpoint.name} {settings}"
        if key not in made:
            path = tmp_path_factory.mktemp("lens") / "run.h5"
            settings = {"prompt": "moore2025", "chat": "never", "self_test": False, "progress": False} | settings
            extract(checkpoint, items, path, **settings)
            made[key] = path
        return open_run(made[key])

    return make


def lens(checkpoint: Any, run: Run, **settings: Any) -> pd.DataFrame:
    return logit_lens(checkpoint, run, progress=False, **settings)


def assert_measures_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Every column of `expected` is in `found` and says the same."""
    for name in expected:
        mine, theirs = found[name].to_numpy(), expected[name].to_numpy()
        if pd.api.types.is_float_dtype(expected[name]):
            np.testing.assert_allclose(mine, theirs, **TOLERANCE, err_msg=name)
        else:
            assert mine.tolist() == theirs.tolist(), name


def at(table: pd.DataFrame, layer: int, scoring: str | None) -> pd.DataFrame:
    same = table["scoring"].isna() if scoring is None else table["scoring"] == scoring
    return table[same & (table["layer"] == layer)].reset_index(drop=True)


@pytest.mark.parametrize(
    ("family", "nucleus", "settings"),
    [
        ("gemma2", "inclusive", {}),
        ("gpt_neox", "exclusive", {"logits": "summary"}),
        ("granite", "exclusive", {"permutations": "cyclic", "option_order": 5}),
        ("cohere", "inclusive", {"prompt": "two_shot", "layers": [1, 3]}),
    ],
)
def test_the_last_layer_gives_the_measures_of_the_run(
    tiny: Callable[..., Any], run_of: Callable[..., Run], family: str, nucleus: str, settings: dict[str, Any]
) -> None:
    checkpoint = tiny(family)
    run = run_of(checkpoint, **settings)
    table = lens(checkpoint, run, nucleus=nucleus)
    assert len(table) == 2 * len(run.layers) * 8
    for scoring in ("label_single", "label_variants"):
        expected = output_measures(run, scoring=scoring, nucleus=nucleus)
        assert_measures_equal(at(table, LAST, scoring), expected)
    assert table.drop_duplicates(["scoring", "layer"])[["scoring", "layer"]].to_numpy().tolist() == [
        [scoring, layer] for scoring in run.scorings for layer in run.layers
    ]
    assert not np.allclose(
        at(table, 1, "label_single")["total_entropy"], at(table, LAST, "label_single")["total_entropy"]
    )


def test_an_empty_nucleus_of_one_rotation_leaves_the_item_without_an_entropy(
    tiny: Callable[..., Any], run_of: Callable[..., Run], tokenizer: Any
) -> None:
    """As in the run: the mean over rotations exists where all of them do."""
    model = copy.deepcopy(tiny("llama").model)
    model.lm_head.weight *= 4  # sure enough of some tokens
    checkpoint = load_checkpoint(model, tokenizer, name="sure")
    run = run_of(checkpoint, permutations="cyclic")
    expected = output_measures(run, nucleus="exclusive")
    found = at(lens(checkpoint, run, nucleus="exclusive", layers=[LAST]), LAST, "label_single")
    assert 0 < expected["top_p_entropy_0.5"].isna().sum() < len(expected)
    assert_measures_equal(found, expected)


@pytest.mark.parametrize(("family", "layer"), [("llama", 0), ("granite", 1), ("mistral", 2)])
def test_an_earlier_layer_gives_the_measures_of_a_model_cut_off_there(
    tiny: Callable[..., Any], run_of: Callable[..., Run], tokenizer: Any, family: str, layer: int
) -> None:
    checkpoint = tiny(family)
    model = copy.deepcopy(checkpoint.model)
    model.model.layers = model.model.layers[: layer + 1]
    model.config.num_hidden_layers = layer + 1
    short = load_checkpoint(model, tokenizer, name=checkpoint.name)
    expected = run_of(short, seed=layer)
    table = lens(checkpoint, run_of(checkpoint))
    for scoring in expected.scorings:
        found = at(table, layer, scoring)
        assert_measures_equal(found, output_measures(expected, scoring=scoring))
        right = correctness(expected.items["answer"], choices(expected.choice_scores(scoring)))
        np.testing.assert_array_equal(found["correct"], right)


def test_the_table_carries_what_people_and_the_run_said(tiny: Callable[..., Any], run_of: Callable[..., Run]) -> None:
    checkpoint = tiny("llama")
    run = run_of(checkpoint)
    table = lens(checkpoint, run)
    human = human_targets(run.items)
    for layer in run.layers:
        part = at(table, layer, "label_variants")
        assert part["item"].tolist() == [f"q{number}" for number in (0, 1, 3, 4, 5, 6, 7, 8)]
        for name in ("human_entropy", "human_entropy_normalized", "n_options"):
            np.testing.assert_array_equal(part[name], human[name])
        right = correctness(run.items["answer"], choices(run.choice_scores("label_variants")))
        np.testing.assert_array_equal(part["final_correct"], right)
        assert np.flatnonzero(part["correct"].isna()).tolist() == [3]
    final = at(table, LAST, "label_variants")
    np.testing.assert_array_equal(final["correct"], final["final_correct"])
    assert (table["correct"] != table["final_correct"]).any()
    assert table.columns[:8].tolist() == [
        "model", "dataset", "item", "prompt", "setting", "scoring", "nucleus", "layer",
    ]  # fmt: skip
    assert set(table["nucleus"]) == {"inclusive"}


def test_open_prompts_have_vocabulary_wide_measures_only(tiny: Callable[..., Any], run_of: Callable[..., Run]) -> None:
    checkpoint = tiny("gemma2")
    run = run_of(checkpoint, prompt="open_two_shot")
    table = lens(checkpoint, run)
    assert table["scoring"].isna().all()
    assert not {"choice", "choice_ties", "correct", "choice_entropy"} & set(table)
    expected = output_measures(run, scoring="text_sum")
    shared = [name for name in expected if not name.startswith("choice") and name != "scoring"]
    assert_measures_equal(at(table, LAST, None), expected[shared])
    right = correctness(run.items["answer"], choices(run.choice_scores("text_sum")))
    np.testing.assert_array_equal(at(table, 0, None)["final_correct"], right)
    with pytest.raises(
        ValueError, match=r"must name label scorings. Got 'text_sum' instead, which takes a forward pass"
    ):
        lens(checkpoint, run, scorings=["text_sum"])


def test_what_is_asked_for_is_what_all_of_it_would_be(
    tiny: Callable[..., Any], run_of: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny("llama")
    run = run_of(checkpoint)
    whole = lens(checkpoint, run)
    monkeypatch.setattr(readout_module, "LOGITS_AT_ONCE", 3 * checkpoint.vocab_size)
    names = ["choice_margin", "total_entropy_normalized", "top_k_entropy_5"]
    part = lens(checkpoint, run, layers=[2, 0], scorings=["label_variants"], measures=names)
    assert part["layer"].tolist() == [2] * 8 + [0] * 8
    measured = [
        name for name in part if name in whole and part[name].dtype == float and name[:5] not in ("human", "final")
    ]
    assert measured == ["total_entropy_normalized", "top_k_entropy_5", "choice_margin", "correct"]
    for layer in (0, 2):
        expected = at(whole, layer, "label_variants")
        assert_measures_equal(at(part, layer, "label_variants"), expected[part.columns])


def test_another_checkpoint_is_refused_by_the_field(tiny: Callable[..., Any], run_of: Callable[..., Run]) -> None:
    checkpoint = tiny("llama")
    run = run_of(checkpoint)
    mend = r"asked for now. Give logit_lens the checkpoint that the run was made with, 'tiny-llama-float32'"
    with pytest.raises(ValueError, match=rf'dtype = "float32", and dtype = "bfloat16" is {mend}'):
        lens(tiny("llama", "bfloat16"), run)
    other = copy.copy(checkpoint)
    other.model = copy.deepcopy(checkpoint.model)
    other.model.lm_head.weight[0, 0] += 1
    with pytest.raises(ValueError, match=rf'weights = "\w+", and weights = "\w+" is {mend}'):
        lens(other, run)
    other.model = copy.deepcopy(checkpoint.model)
    other.model.config.rms_norm_eps = 0.5
    with pytest.raises(ValueError, match=r"config = "):
        lens(other, run)


def test_bad_input_is_named(tiny: Callable[..., Any], run_of: Callable[..., Run]) -> None:
    checkpoint = tiny("llama")
    run = run_of(checkpoint)
    for settings, message in [
        ({"layers": [1, 9]}, r"layers parameter of logit_lens must name layers of the run \(0, 1, 2, 3\). Got '9'"),
        ({"layers": []}, r"layers parameter of logit_lens must name at least one layer"),
        ({"scorings": ["label_singel"]}, r"Got 'label_singel' instead. Did you mean 'label_single'"),
        ({"scorings": "label_single"}, r"must be a list of names, or None. Got 'label_single'"),
        ({"scorings": []}, r"must be a list of names, or None. Got \[\]"),
        ({"nucleus": "inklusive"}, r"Got 'inklusive' instead. Did you mean 'inclusive'"),
        ({"measures": ["total_entrpy"]}, r"Did you mean 'total_entropy'"),
        ({"measures": "total_entropy"}, r"must be a list of names"),
    ]:
        with pytest.raises(ValueError, match=message):
            lens(checkpoint, run, **settings)
    with pytest.raises(ValueError, match=r"must hold the site 'resid_post', .* Got the sites \['resid_pre'\] instead"):
        lens(checkpoint, run_of(checkpoint, sites=["resid_pre"]))


def test_a_run_whose_tokens_or_scores_are_not_found_again_is_refused(
    tiny: Callable[..., Any], run_of: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny("llama")
    run = run_of(checkpoint)
    run.info["tokens"] = "0" * 64
    with pytest.raises(ValueError, match=r"of digest '\w+'. Got '0+' instead: the prompts have changed since"):
        lens(checkpoint, run)
    run = run_of(checkpoint)
    scores = run.choice_scores("label_variants")
    scores[5, 1] += 0.5

    def altered(scoring: str, *, per_row: bool = False) -> np.ndarray:
        return scores if scoring == "label_variants" else Run.choice_scores(run, scoring, per_row=per_row)

    monkeypatch.setattr(run, "choice_scores", altered)
    with pytest.raises(ValueError, match=r"own label_variants scores .* differ by 0.5 nats for item 'q6' instead"):
        lens(checkpoint, run)


def test_the_bar_counts_layers(
    tiny: Callable[..., Any], run_of: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tiny("llama")
    logit_lens(checkpoint, run_of(checkpoint), layers=[0], measures=["total_entropy"])
    captured = capsys.readouterr()
    assert captured.out == ""
