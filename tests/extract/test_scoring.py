"""Scores of the options: against a float64 loop, in the order of the items whatever was shown."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax, logsumexp

from doubtlens.extract.batching import Batch
from doubtlens.extract.capture_loop import CaptureLoop
from doubtlens.extract.forward import BatchResult
from doubtlens.extract.items import validate_items
from doubtlens.extract.prompts import render_prompts
from doubtlens.extract.scoring import ScoringPlan, label_scores, plan_scoring, text_scores
from doubtlens.extract.segment_writer import NonFiniteError

VOCABULARY = 50


def plan_of(orders, single, variants, width=4):
    return ScoringPlan(
        token_ids=[[1, 2]] * len(orders),
        scorings=("label_single", "label_variants"),
        n_options_max=width,
        single=single,
        variants=variants,
        orders=orders,
        continuations=None,
    )


PLAN = plan_of(
    orders=[(0, 1, 2), (2, 0, 1), (1, 0), (3, 1, 0, 2)],
    single=[[10, 11, 12], [10, 11, 12], [20, 11], [10, 11, 12, 13]],
    variants={
        2: [(10, 20, 30), (11,)],
        3: [(10, 20), (11, 21, 31), (12,)],
        4: [(10, 20), (11, 21, 31), (12,), (13, 49)],
    },
)


def random_logits(rows: int, scale: float = 5.0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(0)) * scale + shift


@pytest.mark.parametrize(("scale", "shift"), [(5.0, 0.0), (0.01, 0.0), (40.0, 300.0), (1.0, -30000.0)])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1], [2] * 70])
def test_label_scores_are_log_probabilities_in_the_order_of_the_items(rows, scale, shift):
    logits = random_logits(len(rows), scale, shift)
    scores = label_scores(PLAN, rows, logits)
    assert set(scores) == {"label_single", "label_variants"}
    log_p = log_softmax(logits.numpy().astype(np.float64), axis=1)
    for place, row in enumerate(rows):
        order = PLAN.orders[row]
        expected = {name: np.full(4, np.nan) for name in scores}
        for shown, option in enumerate(order):
            expected["label_single"][option] = log_p[place, PLAN.single[row][shown]]
            spellings = list(PLAN.variants[len(order)][shown])
            expected["label_variants"][option] = logsumexp(log_p[place, spellings])
        for name, values in expected.items():
            assert scores[name].dtype == np.float64
            assert scores[name].shape == (len(rows), 4)
            np.testing.assert_allclose(scores[name][place], values, rtol=1e-12, atol=1e-12)


def test_label_scores_of_a_case_solved_by_hand():
    # Probabilities 1/2, 1/4, 1/8, 1/8 of tokens 0 to 3; options shown as (second, first).
    logits = torch.log(torch.tensor([[4.0, 2.0, 1.0, 1.0]])) + 7
    plan = plan_of([(1, 0)], [[0, 2]], {2: [(0, 1), (2, 3)]}, width=3)
    scores = label_scores(plan, [0], logits)
    np.testing.assert_allclose(scores["label_single"], [[np.log(1 / 8), np.log(1 / 2), np.nan]], rtol=1e-6)
    np.testing.assert_allclose(scores["label_variants"], [[np.log(1 / 4), np.log(3 / 4), np.nan]], rtol=1e-6)


def test_a_label_is_never_more_likely_than_all_its_spellings():
    scores = label_scores(PLAN, [0, 1, 3], random_logits(3))
    single, variants = scores["label_single"], scores["label_variants"]
    assert (variants[~np.isnan(single)] >= single[~np.isnan(single)]).all()
    assert (np.nansum(np.exp(variants), axis=1) <= 1 + 1e-12).all()


def test_rows_score_the_same_alone_and_in_a_batch_of_any_size():
    logits = random_logits(70)
    rows = [row % 4 for row in range(70)]
    whole = label_scores(PLAN, rows, logits)
    for place in (0, 31, 32, 69):
        alone = label_scores(PLAN, [rows[place]], logits[place : place + 1])
        for name in whole:
            np.testing.assert_array_equal(alone[name][0], whole[name][place])


def test_text_scores_are_sums_and_means_over_tokens():
    rng = np.random.default_rng(0)
    lengths = [[1, 4, 2], [3, 3], [7, 1, 1, 2]]
    logprobs = [[-rng.exponential(size=length) for length in options] for options in lengths]
    plan = plan_of([(0, 1, 2), (0, 1), (0, 1, 2, 3)], [], {})
    scores = text_scores(plan, [[torch.from_numpy(values) for values in options] for options in logprobs])
    for place, options in enumerate(logprobs):
        for option, values in enumerate(options):
            assert scores["text_sum"][place, option] == pytest.approx(sum(values.tolist()), rel=1e-12)
            assert scores["text_mean"][place, option] == pytest.approx(sum(values.tolist()) / len(values), rel=1e-12)
        for name in ("text_sum", "text_mean"):
            assert np.isnan(scores[name][place, len(options) :]).all()
            assert scores[name].shape == (3, 4)


@pytest.mark.parametrize("logits", ["full", "summary"])
def test_options_without_a_likelihood_stop_the_run_by_their_item(logits):
    loop = CaptureLoop(None, PLAN, None, logits, ["q0", "q1", "q2", "q3"], False)
    fine, broken = torch.zeros(2, dtype=torch.float64), torch.tensor([0.0, torch.nan], dtype=torch.float64)
    result = BatchResult(random_logits(2), {}, [[fine, fine], [fine, broken]])
    with pytest.raises(NonFiniteError, match="item q1: the likelihood of its options holds NaN or infinity"):
        loop._ready(Batch((3, 1), 5), result)
    loop._ready(Batch((3, 1), 5), BatchResult(random_logits(2), {}, [[fine, fine], [fine, fine]]))


def test_a_plan_holds_every_prompt_in_full_and_the_tokens_of_its_answers(tokenizer):
    questions = [("What is red?", ["blood", "snow", "grass"]), ("Which one?", ["this", "that"])]
    items = validate_items(pd.DataFrame(questions, columns=["question", "options"]))
    listed = render_prompts(items, "two_shot", tokenizer=tokenizer, chat="never", permutations="cyclic")
    plan = plan_scoring(tokenizer, listed)
    assert plan.orders == [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 1), (1, 0)]
    assert plan.n_options_max == 3
    assert plan.scorings == ("label_single", "label_variants")
    assert plan.continuations is None
    for row, ids, single in zip(listed.rows, plan.token_ids, plan.single, strict=True):
        assert ids == tokenizer(row.text)["input_ids"]
        letters = [tokenizer.decode([token]) for token in single]
        assert letters == [f" {label}" for label in row.labels]
    assert set(plan.variants) == {2, 3}
    assert all(own in spellings for own, spellings in zip(plan.single[0], plan.variants[3], strict=True))

    open_ended = render_prompts(items, "open_two_shot", tokenizer=tokenizer, chat="never")
    plan = plan_scoring(tokenizer, open_ended)
    assert plan.scorings == ("text_sum", "text_mean")
    assert plan.single == []
    assert plan.variants == {}
    for row, options, ids in zip(open_ended.rows, plan.continuations, plan.token_ids, strict=True):
        for text, tokens in zip(row.continuations, options, strict=True):
            assert ids + tokens == tokenizer(row.text + text)["input_ids"]
