"""Interventions: does the model use what a probe reads? Move or remove it, and see what the answers do.

1. A probe with weights w reads x · w from the residual stream. Its step (`probes.steering`) raises that by k standard
   deviations, or sets it to its mean, which removes what it told about the item.
2. The edited stream goes on through the rest of the model (`extract.edited_forward`), and the final logits give the
   choice, its entropy, the entropy over the whole vocabulary, and whether the answer is right.
3. The same is done with random directions, by steps of the same length: what any push of that size does is no use of
   what the probe reads.
4. The unedited pass must give the logits that the run keeps, and a few edits must give those of TransformerLens's
   hooks on the whole prompt (`Checkpoint.bridge`), before anything more is run.

`analysis.dose_response` compares the outcomes with the unedited pass and with the random directions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..extract.checkpoints import Checkpoint, load_checkpoint
from ..extract.edited_forward import PLACES, EditedForward, check_edits
from ..extract.progress import row_progress
from ..extract.residual_edits import ResidualEdits
from .answer_tokens import require_checkpoint
from .intervention_outcomes import Outcomes
from .layers import choices, correctness
from .measure_table import did_you_mean, unknown_name
from .steering import ALONG, LEVELS, RANDOM, Steering, steerings

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

MODES = ("add", "remove", "both")
LEAST_RANDOM = 20
_CALLER = "intervene"


@dataclass(frozen=True, eq=False)
class Interventions:
    """The outcomes of interventions on a run, item by item.

    Attributes:
        table: one row per probe, layer, condition and item; see `intervene`.
        info: `path` of the forward passes; `self_test`, what was compared and the largest error; `baseline_error`,
            the largest relative error of unedited logits against the run's; `n_edits` a prompt row; `seconds`;
            `notes`, a list of sentences.
    """

    table: pd.DataFrame
    info: Mapping[str, Any]

    def __repr__(self) -> str:
        items = self.table["item"].nunique()
        return f"Interventions({self.info['n_edits']} edits of {items} items, {self.info['path']})"


def intervene(
    checkpoint: Checkpoint | Any,
    run: Run,
    probes: Any,
    *,
    mode: str = "both",
    doses: Sequence[float] = (-4, -2, -1, 0, 1, 2, 4),
    along: str = "direction",
    remove_to: str = "mean",
    random: str | Array = "covariance",
    n_random: int = 20,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    where: str = "last",
    items: int | Sequence[str] | None = None,
    scoring: str | None = None,
    self_test: bool | str = True,
    reuse: bool = True,
    progress: bool = True,
    rng: np.random.Generator,
) -> Interventions:
    """Move the residual stream along probes' directions, or remove them, and read what the model then answers.

    Args:
        checkpoint: the one that the run was made with (or its TransformerBridge).
        run: an open run, with full logits or a summary of them.
        probes: one or several of `fit_probe`; anything with `direction` [d] in raw units, `layer` and, if it has
            them, `sd`, `site`, `position`, `target`, `scoring`, `kind`; or bare directions [d], with `layers`. A
            mapping gives them names, which then stand in the column `target`.
        mode: `add` steps along the direction, `remove` what the probe reads, or `both`.
        doses: steps in standard deviations of x · direction over the items; 0 is always there.
        along: `direction` (the shortest step that does it) or `covariance` (the step by which activations differ
            where the probe reads more). Both change x · direction by the same amount. See `probes.steering`.
        remove_to: what x · direction becomes for every item: its `mean` over the run (at the layer that is edited),
            or `zero`, which projects the direction out. The mean tells nothing about the item and keeps the stream
            where the model knows it.
        random: where random directions come from: `covariance` (N(0, Σ), Σ of the run's activations at that layer),
            `isotropic`, or directions [R, d] of your own, for instance those of probes of shuffled targets. Their
            steps have the length of the probe's, item by item where it is removed.
        n_random: how many; 20 give p-values of at least 1/21. Ignored where they are given.
        layers: where to edit; default each probe's own. Elsewhere a probe's step is the same vector.
        site: of bare directions; `resid_pre`, `resid_mid` or `resid_post`.
        where: `last`: the last prompt token alone, which the probe read; `all`: every token of the prompt, as in
            steering of generated text. The latter runs every prompt anew for every edit.
        items: ids, or how many to draw: evenly over subjects, and in them over right and wrong answers. Default all.
        scoring: `label_single` or `label_variants`, for the choice; default the run's first. Where the prompt lists
            no options there is none: the total entropy of the next token is then the only outcome.
        self_test: compare a few edits of the first row with TransformerLens (True), with whole prompts run through
            all blocks ("alone"), or with nothing (False).
        reuse: False runs every edited prompt in full, for comparison.
        progress: show a progress bar on stderr.
        rng: source of random directions and of drawn items.

    Returns:
        `Interventions`, whose table has, per row, `model`, `dataset`, `prompt`, `site`, `position` (of the probe),
        `layer` (edited), `target`, `target_scoring` (of the probe), `probe` (its kind, `given` for a bare direction),
        `scoring` (of the outcomes, None without options), `where`, `along`, `random` (`given` for your own),
        `remove_to`; `mode` (`none`, `add`, `remove`), `direction` (`none`, `probe`, `random`), `draw` (number of the
        random direction), `dose` (standard deviations; 0 for `none`, NaN for `remove`); `item`, `subject` if known;
        `total_entropy`, `choice_entropy` (nats), `choice_entropy_normalized`, `choice_probability`, `choice_mass`,
        `choice`, `correct` (NaN where no answer is known), `changed` (the choice is not that of the unedited pass).
        Without options those from `choice_entropy` on are left out, and with cyclic permutations `choice_probability`
        and `choice_mass`. Rotations of an item are edited alike and averaged as `Run.choice_scores` does.

    Raises:
        ValueError: bad settings (named with what came); another checkpoint than the run's; unedited logits that are
            not the run's; a probe of another width, site or position; a layer that the model does not have, or the
            run where its activations are needed; logits that are not finite after an edit.
        SelfTestError: the edits do not give what the reference gives.
    """
    started = time.perf_counter()
    if hasattr(checkpoint, "original_model"):
        checkpoint = load_checkpoint(checkpoint)
    if not isinstance(checkpoint, Checkpoint):
        raise ValueError(
            f"The checkpoint parameter of {_CALLER} must come from load_checkpoint, or be a TransformerBridge. "
            f"Got {checkpoint!r:.80} instead."
        )
    for name, given, known in (
        ("mode", mode, MODES),
        ("along", along, ALONG),
        ("remove_to", remove_to, LEVELS),
        ("where", where, PLACES),
    ):
        if given not in known:
            raise ValueError(unknown_name(name, _CALLER, f"a known {name}", given, known))
    random = _random(random, n_random, checkpoint.d_model)
    steps = _doses(doses) if mode != "remove" else []
    wanted = _scoring(run, scoring)
    require_checkpoint(checkpoint, run, caller=_CALLER)
    steered = steerings(
        run, probes, layers=layers, site=site, along=along, random=random, n_random=n_random,
        remove_to=None if mode == "add" else remove_to, where=where, width=checkpoint.d_model,
        n_layers=checkpoint.n_layers, rng=rng,
    )  # fmt: skip
    rows = np.flatnonzero(run.rows["item"].isin(_items(run, items, rng)))
    unedited = ResidualEdits.shifts(steered[0].keys["layer"], np.zeros((1, checkpoint.d_model)))
    made = [steering.edits(steps) for steering in steered]
    groups = [unedited, *(edits for edits, _ in made)]
    forward = EditedForward(checkpoint, [run.token_ids(int(row)).tolist() for row in rows], where=where, reuse=reuse)
    outcomes = Outcomes(checkpoint, run, wanted, rows, [len(group) for group in groups])
    tested = check_edits(forward, 0, groups, bridge=self_test != "alone") if self_test else "not asked for"
    with row_progress(len(rows), enabled=progress, label="intervening") as advance:
        for place in range(len(rows)):
            for number, logits in enumerate(forward.logits(place, groups)):
                if number == 0:
                    outcomes.compare(place, logits[0])
                outcomes.add(place, number, logits)
            advance(1)
    settings = {
        "scoring": wanted,
        "where": where,
        "along": along,
        "random": random if isinstance(random, str) else "given",
        "remove_to": None if mode == "add" else remove_to,
    }
    tables = [
        outcomes.table(number, conditions, {**steering.keys, **settings})
        for number, (steering, (_, conditions)) in enumerate(zip(steered, made, strict=True), start=1)
    ]
    return Interventions(
        pd.concat(tables, ignore_index=True),
        {
            "path": forward.path,
            "self_test": tested,
            "baseline_error": outcomes.baseline_error,
            "n_edits": sum(map(len, groups)),
            "seconds": round(time.perf_counter() - started, 3),
            "notes": _notes(steered, wanted),
        },
    )


def _notes(steered: Sequence[Steering], scoring: str | None) -> list[str]:
    notes = []
    count = len(steered[0].random)
    if count < LEAST_RANDOM:
        notes.append(f"{count} random directions give no p-value below {1 / (1 + count):.3f}; take {LEAST_RANDOM}")
    if scoring is None:
        notes.append("the prompt lists no options: the only outcome is the total entropy of the next token")
    return notes


def _doses(doses: Sequence[float]) -> list[float]:
    """Doses other than 0, ascending."""
    try:
        values = np.unique(np.asarray(doses, dtype=np.float64))
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if not np.isfinite(values).all() or not values.any():
        raise ValueError(
            f"The doses parameter of {_CALLER} must be finite numbers of standard deviations, at least one of them "
            f"other than 0. Got {doses!r} instead."
        )
    return [float(value) for value in values if value != 0]


def _random(random: str | Array, n_random: int, width: int) -> str | Array:
    if isinstance(random, str):
        if random not in RANDOM:
            raise ValueError(unknown_name("random", _CALLER, "a source, or hold directions,", random, RANDOM))
        if not isinstance(n_random, (int, np.integer)) or isinstance(n_random, bool) or n_random < 1:
            raise ValueError(
                f"The n_random parameter of {_CALLER} must be an integer of at least 1, and 20 for p-values that can "
                f"fall below 0.05. Got {n_random!r} instead."
            )
        return random
    given = np.asarray(random, dtype=np.float64)
    if given.ndim != 2 or not len(given) or given.shape[1] != width:
        raise ValueError(
            f"The random parameter of {_CALLER} must hold directions of the width of the model, [R, {width}]. "
            f"Got shape {given.shape} instead."
        )
    if not np.isfinite(given).all() or not given.any(axis=1).all():
        raise ValueError(
            f"The random parameter of {_CALLER} must hold finite directions that are not 0. Got others instead."
        )
    return given


def _scoring(run: Run, scoring: str | None) -> str | None:
    able = [name for name in run.scorings if name.startswith("label")]
    if scoring is None:
        return able[0] if able else None
    if scoring in run.scorings and scoring not in able:
        raise ValueError(
            f"The scoring parameter of {_CALLER} must be a label scoring. Got {scoring!r} instead, which takes a "
            "forward pass per option after every edit; leave scoring out for the total entropy alone, or extract with "
            "a prompt that lists the options."
        )
    if scoring not in able:
        raise ValueError(unknown_name("scoring", _CALLER, "a label scoring of the run", scoring, able))
    return scoring


def _items(run: Run, items: int | Sequence[str] | None, rng: np.random.Generator) -> Array:
    """Positions of the items to edit, ascending."""
    ids = run.items["id"].astype(str)
    n = len(ids)
    if items is None:
        return np.arange(n)
    if isinstance(items, (int, np.integer)) and not isinstance(items, bool):
        if not 1 <= items <= n:
            raise ValueError(
                f"The items parameter of {_CALLER} must be ids, or a number from 1 to {n}, the items of the run. "
                f"Got {items} instead."
            )
        subject = run.items["subject"].astype(str) if "subject" in run.items else pd.Series([""] * n)
        right = correctness(run.items["answer"], choices(run.choice_scores()))
        # Every n-th of the sorted items: each subject, and right and wrong in it, has its share.
        order = np.lexsort((rng.random(n), np.nan_to_num(right, nan=-1.0), pd.factorize(subject, sort=True)[0]))
        places = np.floor((rng.random() + np.arange(items)) * n / items).astype(int)
        return np.sort(order[places])
    wanted = [items] if isinstance(items, str) else [str(item) for item in items]  # type: ignore[union-attr]
    for item in wanted:
        if item not in set(ids):
            raise ValueError(
                f"The items parameter of {_CALLER} must hold ids of the run's items, or be a number of them. Got "
                f"{item!r} instead.{did_you_mean(item, ids)}"
            )
    if not wanted:
        raise ValueError(f"The items parameter of {_CALLER} must name at least one item. Got none instead.")
    return np.flatnonzero(ids.isin(wanted))
