"""From logits to the scores of the answer options, under every scoring that the prompt allows.

``label_single`` and ``label_variants`` read the final logits at label tokens; ``text_sum`` and ``text_mean`` add up
the log-probabilities of an option's own tokens. All scores are natural-log probabilities in float64, in the order of
the items table whatever order was shown, NaN beyond an item's number of options.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .labels import continuations_tokens, single_label_tokens, variant_label_tokens
from .prompts import RenderedPrompts

TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class ScoringPlan:
    """Token ids that the scores of every prompt row are read at.

    Attributes:
        token_ids: the prompts, one list per row.
        scorings: names, the default first.
        n_options_max: width of the score matrices.
        single: per row, per shown position, the label's token (empty for open prompts).
        variants: per number of options, per shown position, the label's spellings (empty for open prompts).
        orders: per row, the original option at each shown position.
        continuations: per row, per option, the tokens of its text; None for prompts that list their options.
    """

    token_ids: list[list[int]]
    scorings: tuple[str, ...]
    n_options_max: int
    single: list[list[int]]
    variants: dict[int, list[tuple[int, ...]]]
    orders: list[tuple[int, ...]]
    continuations: list[list[list[int]]] | None


def plan_scoring(tokenizer: Any, prompts: RenderedPrompts) -> ScoringPlan:
    """Tokenise every prompt in full and find the tokens of its answers (errors are those of `labels`)."""
    special = prompts.add_bos
    texts = [row.text for row in prompts.rows]
    # A tokenizer keeps some ten kilobytes a text while it works, so it is given a few at a time.
    ids = [
        list(row)
        for start in range(0, len(texts), TEXTS_AT_ONCE)
        for row in tokenizer(texts[start : start + TEXTS_AT_ONCE], add_special_tokens=special)["input_ids"]
    ]
    orders = [row.order for row in prompts.rows]
    counts = [len(order) for order in orders]
    single, variants, continuations = [], {}, None
    if prompts.lists_options:
        single = [
            single_label_tokens(tokenizer, row.text, row.labels, row.label_prefix, special) for row in prompts.rows
        ]
        for row in prompts.rows:
            if len(row.labels) not in variants:
                variants[len(row.labels)] = variant_label_tokens(tokenizer, row.labels)
    else:
        continuations = [continuations_tokens(tokenizer, row.text, row.continuations, special) for row in prompts.rows]
    return ScoringPlan(ids, prompts.scorings, max(counts), single, variants, orders, continuations)


def label_scores(plan: ScoringPlan, rows: list[int], logits: torch.Tensor) -> dict[str, np.ndarray]:
    """Scores of labels from final logits.

    Args:
        rows: prompt rows of the batch.
        logits: float32 ``[B, V]``.

    Returns:
        scoring -> float64 ``[B, Kmax]``: ln p(label), for ``label_variants`` the log-sum-exp over its spellings.
    """
    normaliser = torch.cat([part.double().logsumexp(-1) for part in logits.split(32)]).cpu().numpy()
    scores = {scoring: np.full((len(rows), plan.n_options_max), np.nan) for scoring in plan.scorings}
    for place, row in enumerate(rows):
        order = np.asarray(plan.orders[row])
        row_logits = logits[place].double()
        single = row_logits[plan.single[row]]
        merged = torch.stack([row_logits[list(tokens)].logsumexp(0) for tokens in plan.variants[len(order)]])
        scores["label_single"][place, order] = single.cpu().numpy() - normaliser[place]
        scores["label_variants"][place, order] = merged.cpu().numpy() - normaliser[place]
    return scores


def text_scores(plan: ScoringPlan, continuations: list[list[torch.Tensor]]) -> dict[str, np.ndarray]:
    """Scores of the options' own texts.

    Args:
        continuations: per row, per option, float64 log-probabilities of its tokens.

    Returns:
        ``text_sum`` (sum over tokens) and ``text_mean`` (mean per token), float64 ``[B, Kmax]``.
    """
    total = np.full((len(continuations), plan.n_options_max), np.nan)
    mean = total.copy()
    for place, options in enumerate(continuations):
        for option, logprobs in enumerate(options):
            total[place, option] = float(logprobs.sum())
            mean[place, option] = total[place, option] / len(logprobs)
    return {"text_sum": total, "text_mean": mean}
