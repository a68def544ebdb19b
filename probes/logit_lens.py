"""The logit lens of a run: the output measures that the model would show if it stopped after each layer.

1. The tokens of the answers are found again from the run's items, and proven by the digest that the run keeps of them.
2. The residual stream of a layer goes through the model's own final norm and head (`extract.readout`), a few rows at a
   time; of the logits only statistics and answer scores are kept.
3. Those become measures as they do for the run itself (`output_measures`), so the last layer shows the run's own.

nostalgebraist 2020, "interpreting GPT: the logit lens". A layer whose stream the head was not trained to read may look
confused there and be read well by a probe: the lens shows from where on doubt is readable by the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..extract.readout import Readout
from ..extract.scoring import label_scores
from ..extract.selftest import TOLERANCE
from ..extract.statistics import TOP_K, TOP_P, logit_statistics
from .answer_tokens import answer_tokens, require_checkpoint
from .layers import choices, correctness, progress_bar
from .measure_table import unknown_name
from .measures import RUN_KEYS, output_measures
from .targets import human_targets

if TYPE_CHECKING:
    from ..extract.checkpoints import Checkpoint
    from ..extract.store import Run

Array = np.ndarray

SITE = "resid_post"


def logit_lens(
    checkpoint: Checkpoint,
    run: Run,
    *,
    layers: Sequence[int] | None = None,
    scorings: Sequence[str] | None = None,
    nucleus: str = "inclusive",
    measures: Sequence[str] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Compute the output measures of each layer's residual, through the model's own final norm and head.

    Args:
        checkpoint: the one that the run was made with, with the same weights and dtype.
        run: an open run that holds `resid_post` at the last token.
        layers: layers of the run; default all. The last block's layer gives the run's own measures.
        scorings: `label_single`, `label_variants`, if the run has them; default all that it has. A text scoring
            would need a forward pass per option from each layer: where the prompt lists no options there are
            vocabulary-wide measures only.
        nucleus: convention of the `top_p_*` measures, `inclusive` or `exclusive`.
        measures: names of the measures wanted, as in `output_measures`; default all that there are. Without `top_k_*`
            and `top_p_*` it goes faster.
        progress: show a progress bar on stderr.

    Returns:
        One row per scoring, layer and item, in this order: `model`, `dataset`, `item`, `prompt`, `setting`, `scoring`
        (None where the prompt lists no options), `nucleus`, `layer`, the measures (see `output_measures`), `choice` and
        `choice_ties` of the layer, `correct` (1 where that choice is right), `final_correct` (1 where the choice of the
        run itself is right, under the same scoring; without listed options under the run's default scoring; both NaN
        where no answer is known), `n_options`, `human_entropy`, `human_entropy_normalized`, `subject`. Where the prompt
        lists no options `choice`, `choice_ties` and `correct` are left out.

    Raises:
        ValueError: another checkpoint than the run's (the field is named with both values); no `resid_post` in the
            run; an unknown layer, scoring, nucleus or measure; a tokenizer that no longer gives the run's tokens; a
            last layer whose scores are not those of the run.
        ReadoutError: an architecture whose logits do not follow from the output of its last block.
    """
    require_checkpoint(checkpoint, run, caller="logit_lens")
    if SITE not in run.sites:
        raise ValueError(
            f"The run parameter of logit_lens must hold the site {SITE!r}, what each block hands on. Got the sites "
            f"{run.sites} instead; extract again with sites=['{SITE}']."
        )
    for layer in run.layers if layers is None else layers:
        if layer not in run.layers:
            known = [str(number) for number in run.layers]
            raise ValueError(unknown_name("layers", "logit_lens", "layers of the run", str(layer), known))
    layers = list(run.layers if layers is None else layers)
    if not layers:
        raise ValueError("The layers parameter of logit_lens must name at least one layer. Got none instead.")
    scorings = _scorings(run, scorings)
    lens = _Lens(checkpoint, run, scorings, nucleus, measures)
    lens.compare_last_layer()
    parts = []
    with progress_bar("reading layers out", progress) as report:
        for done, layer in enumerate(layers, start=1):
            parts.append(lens.table(layer))
            if report is not None:
                report(done, len(layers))
    table = pd.concat(parts, ignore_index=True)
    # By scoring first: the blocks of `parts` are whole layers.
    return table.sort_values("scoring", key=lambda names: names.map(scorings.index), kind="stable", ignore_index=True)


@dataclass(eq=False)
class _LayerOutput:
    """What `output_measures` reads of a run, as it would be if the model ended with one layer."""

    items: pd.DataFrame
    info: Mapping[str, Any]
    scorings: Sequence[str]
    _statistics: pd.DataFrame
    _scores: Mapping[str, Array]

    def statistics(self) -> pd.DataFrame:
        return self._statistics

    def choice_scores(self, scoring: str) -> Array:
        return self._scores[scoring]


class _Lens:
    """A checkpoint's head over the rows of a run, with all that turns logits into measures."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        run: Run,
        scorings: Sequence[str | None],
        nucleus: str,
        measures: Sequence[str] | None,
    ) -> None:
        self.run, self.scorings, self.nucleus, self.measures = run, scorings, nucleus, measures
        self.plan = answer_tokens(checkpoint, run, caller="logit_lens")
        self.readout = Readout(checkpoint)
        self.dtype, self.last = checkpoint.dtype_name, checkpoint.n_layers - 1
        self.row_items = run.rows["item"].to_numpy()
        names = [] if measures is None else list(measures)
        self.top_k = TOP_K if measures is None or any(name.startswith("top_k_") for name in names) else ()
        self.top_p = TOP_P if measures is None or any(name.startswith("top_p_") for name in names) else ()
        human = human_targets(run.items)
        self.human = human[["n_options", "human_entropy", "human_entropy_normalized"]].assign(
            subject=run.items.reindex(columns=["subject"])["subject"].to_numpy()
        )
        self.final = {
            scoring: correctness(run.items["answer"], choices(run.choice_scores(scoring or run.scorings[0])))
            for scoring in scorings
        }

    def table(self, layer: int) -> pd.DataFrame:
        """Rows of one layer, scoring after scoring."""
        rows = self.run.residual(layer, SITE, per_row=True)
        step = self.readout.rows_at_once
        if self.scorings == [None]:
            blocks = [self._vocabulary(rows[start : start + step]) for start in range(0, len(rows), step)]
            return self._finish(pd.concat(blocks, ignore_index=True), None, layer)
        statistics, scores = [], []
        for start in range(0, len(rows), step):
            logits = self.readout(rows[start : start + step])
            top_k = [k for k in self.top_k if k <= logits.shape[1]]
            statistics.append(pd.DataFrame(logit_statistics(logits, top_k=top_k, top_p=self.top_p)))
            scores.append(label_scores(self.plan, list(range(start, start + len(logits))), logits))
        output = _LayerOutput(
            self.run.items,
            self.run.info,
            self.run.scorings,
            pd.concat(statistics, ignore_index=True).apply(self._per_item),
            # A run renormalises each rotation first: a constant per item, which no measure of rotated options sees.
            {name: self._per_item(np.concatenate([part[name] for part in scores])) for name in scores[0]},
        )
        parts = []
        for scoring in self.scorings:
            found = output_measures(output, scoring=scoring, nucleus=self.nucleus, measures=self.measures)
            found["correct"] = correctness(self.run.items["answer"], found["choice"].to_numpy())
            parts.append(self._finish(found, scoring, layer))
        return pd.concat(parts, ignore_index=True)

    def compare_last_layer(self) -> None:
        """Hold the scores that the last layer gives against the run's own, on the rows of one forward pass."""
        if self.last not in self.run.layers or self.scorings == [None]:
            return
        count = self.readout.rows_at_once
        logits = self.readout(self.run.residual(self.last, SITE, per_row=True)[:count])
        found = label_scores(self.plan, list(range(len(logits))), logits)
        for scoring in self.scorings:
            known = self.run.choice_scores(scoring, per_row=True)[:count]
            off = np.nanmax(np.abs(found[str(scoring)] - known), axis=1)
            bound = TOLERANCE[self.dtype] * max(1.0, float(np.nanmax(np.abs(known))))
            if not off.max() <= bound:
                row = int(np.argmax(off))
                raise ValueError(
                    f"The run parameter of logit_lens must give its own {scoring} scores from its last layer, to "
                    f"{bound:.2g} nats. Got scores that differ by {off[row]:.3g} nats for item "
                    f"{self.run.items['id'].iloc[self.row_items[row]]!r} instead: the model computes otherwise here "
                    "than where the run was made (compare run.info['versions']); extract again."
                )

    def _vocabulary(self, rows: Array) -> pd.DataFrame:
        """Vocabulary-wide measures of a prompt that lists no options, which cannot be rotated: a row is an item."""
        return output_measures(logits=self.readout(rows), nucleus=self.nucleus, measures=self.measures)

    def _finish(self, found: pd.DataFrame, scoring: str | None, layer: int) -> pd.DataFrame:
        keys: dict[str, Any] = {key: self.run.info[key] for key in RUN_KEYS}
        keys = {"model": keys["model"], "dataset": keys["dataset"], "item": self.run.items["id"].to_numpy()} | keys
        keys |= {"scoring": scoring, "nucleus": self.nucleus, "layer": layer}
        measured = found[[name for name in found if name not in keys]]
        table = pd.concat([pd.DataFrame(keys), measured], axis=1)
        return pd.concat([table.assign(final_correct=self.final[scoring]), self.human], axis=1)

    def _per_item(self, values: Any) -> Array:
        """Mean over the rotations of each item, rows [R, ...] to items [N, ...]; NaN where one of them is NaN."""
        starts = np.flatnonzero(np.diff(self.row_items, prepend=-1))
        counts = np.diff([*starts, len(self.row_items)])
        sums = np.add.reduceat(np.asarray(values), starts, axis=0)
        return sums / counts.reshape(-1, *(1,) * (sums.ndim - 1))


def _scorings(run: Run, scorings: Sequence[str] | None) -> list[Any]:
    able = [name for name in run.scorings if name.startswith("label")]
    if scorings is None:
        return able or [None]
    if isinstance(scorings, str) or not scorings:
        raise ValueError(
            f"The scorings parameter of logit_lens must be a list of names, or None. Got {scorings!r} instead."
        )
    for name in scorings:
        if name in run.scorings and name not in able:
            raise ValueError(
                f"The scorings parameter of logit_lens must name label scorings. Got {name!r} instead, which takes a "
                "forward pass per option from every layer; leave scorings out for vocabulary-wide measures, or "
                "extract with a prompt that lists the options."
            )
        if name not in able:
            raise ValueError(unknown_name("scorings", "logit_lens", "label scorings of the run", name, able))
    return list(scorings)
