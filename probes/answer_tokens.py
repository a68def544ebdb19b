"""What is needed to run a run's prompts again: its checkpoint, and the tokens in which its answers are scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..extract.identity import digest_of, require_same
from ..extract.prompts import render_prompts
from ..extract.scoring import ScoringPlan, plan_scoring

if TYPE_CHECKING:
    from ..extract.checkpoints import Checkpoint
    from ..extract.store import Run


def require_checkpoint(checkpoint: Checkpoint, run: Run, *, caller: str) -> None:
    """Refuse a checkpoint that is not the one a run was made with.

    Raises:
        ValueError: dtype, configuration, tokenizer or weights differ; the field is named with both values.
    """
    found = {
        "dtype": checkpoint.dtype_name,
        "config": checkpoint.config_hash,
        "tokenizer": checkpoint.tokenizer_hash,
        "weights": checkpoint.fingerprint,
    }
    require_same(
        {field: run.info.get(field) for field in found},
        found,
        where=f"The run in {run.path} (of {run.info['model']})",
        versions=False,
        mend=f"Give {caller} the checkpoint that the run was made with, {run.info['checkpoint']!r}.",
    )


def answer_tokens(checkpoint: Checkpoint, run: Run, *, caller: str) -> ScoringPlan:
    """Find the prompts' and answers' tokens of a run again, one entry per row of `Run.rows`.

    Raises:
        ValueError: the digest that the run keeps of them says otherwise.
    """
    info = run.info
    prompts = render_prompts(
        run.items.drop(columns=["prompt", "n_options"]),
        info["prompt"],
        tokenizer=checkpoint.tokenizer,
        chat="always" if info["chat"] else "never",
        option_order=info["option_order"],
        permutations=info["permutations"],
    )
    plan = plan_scoring(checkpoint.tokenizer, prompts)
    found = digest_of([plan.token_ids, plan.single, sorted(plan.variants.items()), plan.continuations])
    if found != info["tokens"]:
        raise ValueError(
            f"The run parameter of {caller} must hold the prompt and answer tokens that its items give here, of digest "
            f"{found!r}. Got {info['tokens']!r} instead: the prompts have changed since {run.path} was made; extract "
            "again."
        )
    return plan
