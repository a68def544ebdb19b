"""Capture against the model itself, row by row as if run alone, for every architecture family."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from doubtlens.extract import extract, load_checkpoint, open_run
from doubtlens.extract.capture import Interrupted
from doubtlens.extract.checkpoints import Checkpoint
from doubtlens.extract.forward import Forwarder
from doubtlens.extract.labels import LabelTokenError
from doubtlens.extract.segment_writer import NonFiniteError
from doubtlens.extract.segments import partial_folder
from doubtlens.extract.selftest import SelfTestError, run_bridge
from doubtlens.extract.sites import SITES, SiteReader, find_blocks
from doubtlens.extract.store import Run

FAMILIES = ("llama", "mistral", "gemma2", "gemma3", "qwen3", "granite", "cohere", "gpt_neox")
PARALLEL = ("cohere", "gpt_neox")
DEPTH, WIDTH, WINDOW = 4, 32, 24
# float32 rounding through four blocks; a wrong mask, position or norm is at least a thousand times larger.
TOLERANCE = {"rtol": 2e-4, "atol": 2e-4}


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    """Twelve questions of 2 to 4 options; the lengths run from a few tokens to several sliding windows."""
    rng = np.random.default_rng(7)
    words = ["river", "music", "old", "king", "which", "city", "name", "great", "is", "the", "of", "first"]
    records = []
    for number in range(12):
        count = 2 + number % 3
        options = [" ".join(rng.choice(words, 1 + (number + o) % 3)) + f" {o}" for o in range(count)]
        question = " ".join(rng.choice(words, 2 + 4 * (number % 5))) + "?"
        records.append(
            {
                "id": f"q{number}",
                "question": question,
                "options": options,
                "answer": number % count,
                "responses": rng.integers(1, 30, count).astype(float).tolist(),
                "respondents": None,
                "subject": f"s{number % 3}",
            }
        )
    frame = pd.DataFrame(records)
    frame.attrs["name"] = "made"
    return frame


def run_of(checkpoint: Checkpoint, items: Any, path: Path, **settings: Any) -> Run:
    settings = {"chat": "never", "self_test": False, "progress": False, "batch_tokens": 400} | settings
    return extract(checkpoint, items, path, **settings)


def alone(checkpoint: Checkpoint, ids: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """(final logits, hidden states as the model itself gives them) of one prompt by itself."""
    with torch.inference_mode():
        output = checkpoint.model(
            input_ids=torch.as_tensor(ids[None].astype(np.int64)), use_cache=False, output_hidden_states=True
        )
    return output.logits[0, -1].float().numpy(), [state[0, -1].float() for state in output.hidden_states]


def final_norm(checkpoint: Checkpoint) -> Any:
    base = checkpoint.model.base_model
    return getattr(base, "norm", None) or getattr(base, "final_layer_norm", None)


@pytest.mark.parametrize("prompt", ["two_shot", "moore2025"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_equals_the_prompt_run_alone(
    family: str, prompt: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = tiny(family)
    run = run_of(checkpoint, items, tmp_path / "run.h5", prompt=prompt)
    assert run.info["path"] == "shared prefix"
    assert run.info["prefix_tokens"] >= 8
    lengths = run.rows["n_tokens"].to_numpy()
    assert lengths.max() > 2 * WINDOW
    assert len(set(lengths)) > 4
    logits = run.logits()[:]
    for row in range(len(run.rows)):
        expected, hidden = alone(checkpoint, run.token_ids(row))
        np.testing.assert_allclose(logits[row], expected, **TOLERANCE)
        for layer in range(DEPTH - 1):
            np.testing.assert_allclose(run.residual(layer)[row], hidden[layer + 1], **TOLERANCE)
        # The model hands out its last hidden state after the final norm; resid_post stands before it.
        last = torch.as_tensor(run.residual(DEPTH - 1)[row])
        with torch.inference_mode():
            np.testing.assert_allclose(final_norm(checkpoint)(last), hidden[DEPTH], **TOLERANCE)
        assert not np.allclose(last, hidden[DEPTH], atol=1e-2)


@pytest.mark.bridge
@pytest.mark.parametrize("family", FAMILIES)
def test_every_site_equals_the_hooks_of_transformer_lens(
    family: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = tiny(family)
    sites = [site for site in SITES if site != "resid_mid" or family not in PARALLEL]
    run = run_of(checkpoint, items.iloc[:6], tmp_path / "run.h5", sites=sites, layers=[0, 2, 3])
    bridge, reader = checkpoint.bridge(), SiteReader(checkpoint, sites, [0, 2, 3])
    for row in range(len(run.rows)):
        logits, residual = run_bridge(bridge, run.token_ids(row).tolist(), reader)
        np.testing.assert_allclose(run.logits()[row], logits, **TOLERANCE)
        for site in sites:
            for place, layer in enumerate(reader.layers):
                expected = residual[f"residual/{site}"][place]
                np.testing.assert_allclose(run.residual(layer, site)[row], expected, **TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_prefix_changes_nothing_but_rounding(
    family: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = tiny(family)
    for prompt, sites in (("two_shot", ["resid_pre", "resid_post"]), ("open_two_shot", ["resid_post"])):
        shared = run_of(checkpoint, items, tmp_path / f"{prompt}-shared.h5", prompt=prompt, sites=sites)
        plain = run_of(
            checkpoint, items, tmp_path / f"{prompt}-plain.h5", prompt=prompt, sites=sites, share_prefix=False
        )
        assert shared.info["prefix_tokens"] > 0 == plain.info["prefix_tokens"]
        np.testing.assert_allclose(shared.logits()[:], plain.logits()[:], **TOLERANCE)
        for site in sites:
            np.testing.assert_allclose(shared.residual(2, site), plain.residual(2, site), **TOLERANCE)
        for scoring in shared.scorings:
            np.testing.assert_allclose(shared.choice_scores(scoring), plain.choice_scores(scoring), **TOLERANCE)


@pytest.mark.parametrize("family", [*FAMILIES, "falcon_h1"])
def test_option_texts_are_scored_as_in_the_whole_text_run_alone(
    family: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = tiny(family)
    run = run_of(checkpoint, items, tmp_path / "run.h5", prompt="open_two_shot")
    total, mean = run.choice_scores("text_sum"), run.choice_scores("text_mean")
    for row, options in enumerate(run.items["options"]):
        prompt = run.token_ids(row).tolist()
        for option, text in enumerate(options):
            whole = checkpoint.tokenizer(f"{run.items['prompt'][row]} {text}")["input_ids"]
            assert whole[: len(prompt)] == prompt
            with torch.inference_mode():
                logits = checkpoint.model(input_ids=torch.tensor([whole]), use_cache=False).logits[0].double()
            steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            tail = torch.tensor(whole[len(prompt) :])
            expected = float(steps.gather(-1, tail.unsqueeze(-1)).sum())
            assert total[row, option] == pytest.approx(expected, rel=1e-5, abs=1e-4)
            assert mean[row, option] == pytest.approx(expected / len(tail), rel=1e-5, abs=1e-4)
        assert np.isnan(total[row, len(options) :]).all()


def test_label_scores_are_log_probabilities_under_the_whole_vocabulary(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = tiny("llama")
    run = run_of(checkpoint, items, tmp_path / "run.h5", option_order=3)
    logits = run.logits()[:].astype(np.float64)
    logprobs = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    scores = run.choice_scores("label_single")
    shuffled = 0
    for row, options in enumerate(run.items["options"]):
        listed = [line[3:] for line in run.items["prompt"][row].splitlines()[-len(options) - 1 : -1]]
        assert sorted(listed) == sorted(options)
        shuffled += listed != options
        for option, text in enumerate(options):
            letter = "ABCD"[listed.index(text)]
            token = checkpoint.tokenizer.convert_tokens_to_ids(f"Ġ{letter}")
            assert scores[row, option] == pytest.approx(logprobs[row, token], abs=1e-9)
    assert shuffled > 2


def test_rotations_ask_each_option_at_each_place_and_average(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    run = run_of(tiny("llama"), items, tmp_path / "run.h5", permutations="cyclic")
    counts = run.items["n_options"].to_numpy()
    assert len(run.rows) == counts.sum()
    assert run.logits().shape[0] == counts.sum()
    per_row, mean = run.residual(1, per_row=True), run.residual(1)
    raw = run.choice_scores("label_single", per_row=True)
    for number, count in enumerate(counts):
        rows = np.flatnonzero(run.rows["item"] == number)
        assert len(rows) == count
        np.testing.assert_allclose(mean[number], per_row[rows].mean(0), rtol=1e-5, atol=1e-6)
        kept = raw[rows, :count]
        renormalised = kept - np.log(np.exp(kept).sum(1, keepdims=True))
        np.testing.assert_allclose(run.choice_scores("label_single")[number, :count], renormalised.mean(0), atol=1e-9)


def test_summary_keeps_the_numbers_of_full_logits(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    full = run_of(tiny("gemma2"), items, tmp_path / "full.h5")
    summary = run_of(tiny("gemma2"), items, tmp_path / "summary.h5", logits="summary")
    pd.testing.assert_frame_equal(full.statistics(), summary.statistics(), check_exact=True)
    np.testing.assert_array_equal(full.choice_scores(), summary.choice_scores())
    values, ids = summary.largest_logits()
    logits = full.logits()[:]
    np.testing.assert_array_equal(values, -np.sort(-logits, axis=1)[:, :1024])
    np.testing.assert_array_equal(np.take_along_axis(logits, ids, 1), values)
    with pytest.raises(ValueError, match='logits="summary" and holds no full logits'):
        summary.logits()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bit_models_are_stored_without_loss_and_their_noise_is_measured(
    dtype: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = tiny("llama", dtype)
    run = run_of(checkpoint, items, tmp_path / "run.h5", self_test="alone", share_prefix=False, batch_tokens=1)
    for row in (0, 5):
        # One row per batch and no prefix: the very same computation, so the very same bits.
        logits, hidden = alone(checkpoint, run.token_ids(row))
        np.testing.assert_array_equal(run.residual(1)[row], hidden[2])
        np.testing.assert_array_equal(run.logits()[row], logits)
    noise = run.info["self_test"]["float32_noise"]
    assert 1e-4 < noise["logits"] < 0.1
    assert noise["largest_logit_difference"] > 0


def test_the_noise_of_a_dequantised_file_is_measured_and_that_of_quantised_weights_is_not(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    def noise_of(model: Any) -> Any:
        checkpoint = load_checkpoint(model, tokenizer, name="quantised")
        run = run_of(checkpoint, items.iloc[:2], tmp_path / "run.h5", self_test="alone", overwrite=True)
        return run.info["self_test"]["float32_noise"]

    model = copy.deepcopy(tiny("llama", "bfloat16").model)
    model.is_quantized = True  # as transformers marks what it read from a GGUF file
    with pytest.raises(ValueError, match="not supported for quantized model"):
        copy.deepcopy(model).float()
    assert 1e-4 < noise_of(model)["logits"] < 0.1
    model.lm_head.register_parameter(
        "packed", torch.nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    )
    assert noise_of(model) == "not measured: the weights are quantised"


def test_a_recurrent_model_takes_the_plain_path_by_name(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = tiny("falcon_h1")
    run = run_of(checkpoint, items, tmp_path / "run.h5")
    assert run.info["path"] == "plain: FalconH1ForCausalLM keeps a recurrent state"
    for row in range(len(run.rows)):
        logits, hidden = alone(checkpoint, run.token_ids(row))
        np.testing.assert_allclose(run.logits()[row], logits, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(run.residual(0)[row], hidden[1], rtol=1e-3, atol=1e-3)


@pytest.mark.bridge
@pytest.mark.parametrize("prompt", ["two_shot", "open_two_shot"])
def test_the_self_test_reports_both_references(
    prompt: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    outcome = run_of(tiny("mistral"), items, tmp_path / "run.h5", prompt=prompt, self_test=True).info["self_test"]
    assert set(outcome["alone"]) >= {"logits", "resid_post"}
    assert ("continuations" in outcome["alone"]) == (prompt == "open_two_shot")
    for reference in ("alone", "bridge"):
        assert all(0 <= error < outcome["tolerance"] for error in outcome[reference].values())


@pytest.mark.parametrize(("site", "tolerance"), [("resid_post", "1e-04"), ("mlp_out", "2e-04")])
def test_the_self_test_stops_a_run_whose_numbers_are_wrong(
    site: str,
    tolerance: str,
    tiny: Callable[..., Any],
    items: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Forwarder.run

    def one_layer_shifted(self: Forwarder, batch: Any, continuations: Any = None) -> Any:
        result = right(self, batch, continuations)
        residual = result.residual[f"residual/{site}"].clone()
        residual[:, 1] *= 1.001
        result.residual[f"residual/{site}"] = residual
        return result

    monkeypatch.setattr(Forwarder, "run", one_layer_shifted)
    message = rf"captured {site} differ .* 'alone' by 1\.00e-03 .* tolerance {tolerance}"
    with pytest.raises(SelfTestError, match=message):
        run_of(tiny("llama"), items, tmp_path / "run.h5", sites=[site], self_test="alone")
    assert not (tmp_path / "run.h5").exists()


def test_an_interrupted_run_resumes_to_the_same_file(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[Interrupted.__module__], "SEGMENT_ROWS", 3)
    whole = run_of(tiny("llama"), items, tmp_path / "whole.h5", batch_tokens=60)
    right, calls = Forwarder.run, []

    def stop_at_five(self: Forwarder, batch: Any, continuations: Any = None) -> Any:
        calls.append(batch)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return right(self, batch, continuations)

    monkeypatch.setattr(Forwarder, "run", stop_at_five)
    path = tmp_path / "run.h5"
    with pytest.raises(Interrupted, match=r"^Interrupted: \d of \d segments of .*run\.h5 are kept\. Run the same"):
        run_of(tiny("llama"), items, path, batch_tokens=60)
    assert not path.exists()
    with pytest.raises(FileNotFoundError, match="still being written, or was interrupted"):
        open_run(path)
    kept = len(list(partial_folder(path).glob("segment-*")))
    assert kept >= 1

    with pytest.raises(ValueError, match=r"made with prompt = \"two_shot\", and prompt = \"moore2025\" is asked for"):
        run_of(tiny("llama"), items, path, batch_tokens=60, prompt="moore2025")
    with pytest.raises(ValueError, match="was made with checkpoint = "):
        run_of(tiny("qwen3"), items, path, batch_tokens=60)

    resumed = run_of(tiny("llama"), items, path, batch_tokens=60)
    assert resumed.info["resumed_segments"] == kept
    assert not partial_folder(path).exists()
    np.testing.assert_array_equal(resumed.logits()[:], whole.logits()[:])
    for layer in resumed.layers:
        np.testing.assert_array_equal(resumed.residual(layer), whole.residual(layer))
    resumed.verify()

    calls.clear()
    run_of(tiny("llama"), items, path, batch_tokens=60)
    assert not calls  # complete: returned as it is


def test_a_complete_run_with_other_settings_is_kept_unless_overwritten(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    before = run_of(tiny("llama"), items, path)
    with pytest.raises(ValueError, match=r"made with sites = .*overwrite=True"):
        run_of(tiny("llama"), items, path, sites=["resid_pre"])
    changed = items.copy()
    changed.loc[0, "question"] = "What else?"
    with pytest.raises(ValueError, match="made with items = "):
        run_of(tiny("llama"), changed, path)
    assert open_run(path).info == before.info
    assert run_of(tiny("llama"), items, path, sites=["resid_pre"], overwrite=True).sites == ["resid_pre"]


def test_a_file_that_is_something_else_is_never_touched(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises((FileExistsError, ValueError), match="not an HDF5 file"):
            run_of(tiny("llama"), items, path, overwrite=overwrite)
    assert path.read_text() == "years of work"


def test_running_out_of_memory_halves_the_batch(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_of(tiny("llama"), items, tmp_path / "whole.h5", prompt="open_two_shot")
    right = Forwarder._run

    def at_most_one(self: Forwarder, batch: Any, continuations: Any) -> Any:
        if len(batch.rows) > 1:
            raise torch.OutOfMemoryError("too much")
        return right(self, batch, continuations)

    monkeypatch.setattr(Forwarder, "_run", at_most_one)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    halved = run_of(tiny("llama"), items, tmp_path / "halved.h5", prompt="open_two_shot")
    assert halved.info["memory_splits"] > 0
    np.testing.assert_allclose(halved.logits()[:], whole.logits()[:], **TOLERANCE)
    np.testing.assert_allclose(halved.choice_scores("text_sum"), whole.choice_scores("text_sum"), **TOLERANCE)
    monkeypatch.setattr(
        Forwarder, "_run", lambda *args: (_ for _ in ()).throw(torch.OutOfMemoryError("not even one row"))
    )
    with pytest.raises(torch.OutOfMemoryError, match="not even one row"):
        run_of(tiny("llama"), items, tmp_path / "never.h5")


@pytest.mark.parametrize("logits", ["full", "summary"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_stop_the_run_with_the_item(
    value: float, logits: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = tiny("llama")
    blocks = find_blocks(checkpoint.model, DEPTH)
    weight = blocks[2].mlp.down_proj.weight
    kept = weight[3, 5].item()
    with torch.no_grad():
        weight[3, 5] = value
    fresh = Checkpoint(checkpoint.model, checkpoint.tokenizer, "broken", "broken")
    try:
        with pytest.raises(NonFiniteError, match=r"item q\d+: (residual/resid_post|logits/final) holds NaN or inf"):
            run_of(fresh, items, tmp_path / "run.h5", logits=logits)
    finally:
        with torch.no_grad():
            weight[3, 5] = kept
    assert not (tmp_path / "run.h5").exists()


def test_bad_settings_are_named_before_anything_is_written(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint, path = tiny("llama"), tmp_path / "run.h5"
    for settings, message in (
        ({"sites": ["resid_pots"]}, "unknown site 'resid_pots'. Did you mean 'resid_post'"),
        ({"layers": [0, 4]}, "unknown layer 4: .* has the layers 0 to 3"),
        ({"layers": "most"}, "layers parameter of extract must be"),
        ({"layers": []}, "must name at least one block"),
        ({"prompt": "twoshot"}, "two_shot"),
        ({"logits": "ful"}, "Did you mean 'full'"),
        ({"batch_tokens": 0}, "batch_tokens parameter of extract must be"),
        ({"batch_tokens": "many"}, "batch_tokens parameter of extract must be"),
        ({"chat": "always"}, "chat template"),
        ({"prompt": "open_two_shot", "permutations": "cyclic"}, "lists no"),
    ):
        with pytest.raises(ValueError, match=message):
            run_of(checkpoint, items, path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_resid_mid_is_refused_where_attention_and_mlp_read_the_same_residual(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="CohereForCausalLM has no resid_mid"):
        run_of(tiny("cohere"), items, tmp_path / "run.h5", sites=["resid_mid"])


def test_a_prompt_longer_than_the_context_names_its_item(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    long = items.copy()
    long.loc[4, "question"] = "music " * 600
    with pytest.raises(ValueError, match=r"item q4: its prompt has \d+ tokens .* takes 512"):
        run_of(tiny("llama"), long, tmp_path / "run.h5")


def test_labels_of_several_tokens_are_refused_by_name(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    from tokenizers import Tokenizer

    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = definition["model"]["merges"]
    definition["model"]["merges"] = [pair for pair in merges if pair not in (["Ġ", "B"], "Ġ B")]
    split = copy.deepcopy(tokenizer)
    split._tokenizer = Tokenizer.from_str(json.dumps(definition))
    checkpoint = Checkpoint(tiny("llama").model, split, "split", "split")
    with pytest.raises(LabelTokenError, match=r"one known token each after the prompt\. Got 'B'"):
        run_of(checkpoint, items, tmp_path / "run.h5")


def test_excluded_items_are_left_out_and_recorded(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    marked = items.copy()
    marked["excluded"] = [None] * 12
    marked.loc[3, "excluded"] = "one option twice"
    run = run_of(tiny("llama"), marked, tmp_path / "run.h5")
    assert run.items["id"].tolist() == [f"q{number}" for number in range(12) if number != 3]
    assert run.info["excluded"] == [{"item": "q3", "reason": "one option twice"}]
    assert run.items["prompt"].str.contains(items["question"][4], regex=False)[3]


@pytest.mark.bridge
def test_a_bridge_shares_the_weights_and_leaves_the_model_alone(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("llama")
    ids = torch.arange(10, 30)[None]
    with torch.inference_mode():
        before = checkpoint.model(input_ids=ids).logits
    bridge = checkpoint.bridge()
    with torch.inference_mode():
        after = checkpoint.model(input_ids=ids).logits
        through = bridge(ids, attention_mask=torch.ones_like(ids))
    assert torch.equal(before, after)
    assert checkpoint.model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(through, before, rtol=1e-4, atol=1e-4)
    pointers = {parameter.data_ptr() for parameter in checkpoint.model.parameters()}
    assert {parameter.data_ptr() for parameter in bridge.original_model.parameters()} == pointers
    assert checkpoint.bridge() is bridge


@pytest.mark.bridge
def test_a_bridge_of_the_users_own_is_accepted(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    checkpoint = tiny("qwen3")
    own = load_checkpoint(checkpoint.bridge(), name="mine")
    assert own.bridge() is checkpoint.bridge()
    sites = ["resid_pre", "resid_post"]
    through = run_of(own, items, tmp_path / "own.h5", sites=sites)
    plain = run_of(checkpoint, items, tmp_path / "plain.h5", sites=sites)
    np.testing.assert_allclose(through.logits()[:], plain.logits()[:], **TOLERANCE)
    for layer in plain.layers:
        for site in sites:
            np.testing.assert_allclose(through.residual(layer, site), plain.residual(layer, site), **TOLERANCE)


def test_settings_of_numpy_and_lists_are_taken_as_plain_numbers(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint, path = tiny("llama"), tmp_path / "run.h5"
    numbers: dict[str, Any] = {
        "layers": np.arange(2),
        "option_order": np.int64(3),
        "seed": np.int32(1),
        "batch_tokens": np.int64(400),
    }
    run = run_of(checkpoint, items, path, **numbers)
    assert (run.layers, run.info["option_order"], run.info["seed"]) == ([0, 1], 3, 1)
    assert run_of(checkpoint, items, path, layers=[1, 0], option_order=3, seed=1).info == run.info
    for settings, message in (
        ({"layers": 2}, 'must be "all" or block numbers. Got 2'),
        ({"layers": [1.5]}, r'must be "all" or block numbers. Got \[1.5\]'),
        ({"batch_tokens": 10.5}, 'must be "auto" or at least 1. Got 10.5'),
        ({"sites": "resid_post"}, "must be a list of different names of resid_pre"),
    ):
        with pytest.raises(ValueError, match=message):
            run_of(checkpoint, items, tmp_path / "other.h5", **settings)
    with pytest.raises(ValueError, match=r"parameter of extract must come from load_checkpoint.* Got 'gpt2'"):
        run_of("gpt2", items, tmp_path / "other.h5")  # type: ignore[arg-type]


def test_weights_or_configuration_edited_in_place_make_another_run(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    checkpoint = load_checkpoint(copy.deepcopy(tiny("llama").model), tokenizer, name="edited")
    path = tmp_path / "run.h5"
    run_of(checkpoint, items, path)
    with torch.no_grad():
        checkpoint.model.lm_head.weight[7] *= 2
    with pytest.raises(ValueError, match="made with weights = "):
        run_of(checkpoint, items, path)
    with torch.no_grad():
        checkpoint.model.lm_head.weight[7] /= 2
    run_of(checkpoint, items, path)
    checkpoint.model.config.rms_norm_eps = 0.5
    with pytest.raises(ValueError, match="made with config = "):
        run_of(checkpoint, items, path)


def test_a_tokenizer_of_another_model_is_refused_by_item(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    config = copy.deepcopy(tiny("llama").model.config)
    config.vocab_size = 200
    other = load_checkpoint(type(tiny("llama").model)(config), tokenizer, name="small")
    for prompt in ("two_shot", "open_two_shot"):
        with pytest.raises(ValueError, match=r"item q0: its tokens go up to \d+, and small knows 200\. The"):
            run_of(other, items, tmp_path / "run.h5", prompt=prompt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["none", "beyond the embedding"])
def test_the_padding_token_changes_no_number(
    change: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    changed = copy.deepcopy(tokenizer)
    if change == "none":
        changed.pad_token = None
    else:
        changed.add_special_tokens({"pad_token": "<another>"})
        assert changed.pad_token_id == 384
    expected = run_of(tiny("llama"), items, tmp_path / "expected.h5")
    run = run_of(load_checkpoint(tiny("llama").model, changed, name="padless"), items, tmp_path / "run.h5")
    np.testing.assert_array_equal(run.logits()[:], expected.logits()[:])
    np.testing.assert_array_equal(run.residual(2), expected.residual(2))


def test_running_out_of_memory_in_the_prefix_leaves_no_half_cache(
    tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path
) -> None:
    expected = run_of(tiny("llama"), items, tmp_path / "expected.h5")
    checkpoint = load_checkpoint(copy.deepcopy(tiny("llama").model), tiny("llama").tokenizer, name="tight")
    calls = []

    def fail_once(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("in the third block of the prefix")

    find_blocks(checkpoint.model, DEPTH)[2].register_forward_pre_hook(fail_once)
    run = run_of(checkpoint, items, tmp_path / "run.h5")
    assert run.info["memory_splits"] == 1
    np.testing.assert_allclose(run.logits()[:], expected.logits()[:], **TOLERANCE)
    np.testing.assert_allclose(run.residual(3), expected.residual(3), **TOLERANCE)


def test_architectures_that_cannot_be_captured_are_refused_by_name(
    items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    import transformers as t

    shape = {"vocab_size": 384, "hidden_size": 16, "num_hidden_layers": 2}
    mamba = t.AutoModelForCausalLM.from_config(t.MambaConfig(**shape, state_size=4)).to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"ssm computes in bfloat16 and carries its residual stream .* in float32"):
        run_of(load_checkpoint(mamba, tokenizer, name="ssm"), items, tmp_path / "ssm.h5")
    streams = t.Gemma3nTextConfig(
        **shape,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size_per_layer_input=384,
        hidden_size_per_layer_input=8,
        laurel_rank=4,
        num_kv_shared_layers=0,
        layer_types=["sliding_attention", "full_attention"],
        activation_sparsity_pattern=[0.0, 0.0],
    )
    several = load_checkpoint(t.AutoModelForCausalLM.from_config(streams), tokenizer, name="streams")
    with pytest.raises(ValueError, match=r"Gemma3nForCausalLM: resid_post must be one residual stream .* Got \(4, "):
        run_of(several, items, tmp_path / "streams.h5")


def test_a_model_that_takes_no_cache_takes_the_plain_path_by_name(
    items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    import transformers as t

    config = t.OpenAIGPTConfig(vocab_size=384, n_embd=16, n_layer=2, n_head=2, n_positions=512)
    checkpoint = load_checkpoint(t.AutoModelForCausalLM.from_config(config), tokenizer, name="first")
    for prompt in ("two_shot", "open_two_shot"):
        run = run_of(checkpoint, items, tmp_path / f"{prompt}.h5", prompt=prompt, self_test="alone")
        assert run.info["path"] == "plain: OpenAIGPTLMHeadModel takes no cache"
        logits, hidden = alone(checkpoint, run.token_ids(4))
        np.testing.assert_allclose(run.logits()[4], logits, **TOLERANCE)
        np.testing.assert_allclose(run.residual(0)[4], hidden[1], **TOLERANCE)


def test_a_folder_that_cannot_be_made_is_named(tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory") as failure:
        run_of(tiny("llama"), items, tmp_path / "file" / "run.h5")
    assert "give a path in a folder that can be written" in failure.value.__notes__[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; the CPU twins above test the same code")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_run_equals_the_cpu_run(
    family: str, tiny: Callable[..., Any], items: pd.DataFrame, tmp_path: Path, tokenizer: Any
) -> None:
    checkpoint = tiny(family)
    moved = Checkpoint(copy.deepcopy(checkpoint.model).cuda(), tokenizer, "gpu", "gpu")
    for prompt in ("two_shot", "open_two_shot"):
        here = run_of(checkpoint, items, tmp_path / f"cpu-{prompt}.h5", prompt=prompt)
        there = run_of(moved, items, tmp_path / f"gpu-{prompt}.h5", prompt=prompt, self_test="alone")
        np.testing.assert_allclose(there.logits()[:], here.logits()[:], rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(there.residual(3), here.residual(3), rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(there.choice_scores(), here.choice_scores(), rtol=2e-3, atol=2e-3)
