"""The forward passes of one call of `extract`: batches in, finished segments out, with the self-test in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .batching import Batch
from .checkpoints import Checkpoint
from .forward import BatchResult, Forwarder
from .scoring import ScoringPlan, label_scores, text_scores
from .segment_writer import HostCopy, NonFiniteError, SegmentWriter
from .segments import PartialRun
from .selftest import self_test
from .statistics import largest_logits, logit_statistics

LARGEST = 1024


class CaptureLoop:
    """Runs batches, times them, and hands over what is to be kept.

    Attributes:
        outcome: what the self-test found, or why there was none.
        self_test_seconds, write_seconds: time spent testing, and by the writing thread.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: ScoringPlan,
        forwarder: Forwarder,
        logits: str,
        names: Sequence[str],
        wants_test: bool | str,
    ) -> None:
        self.checkpoint, self.plan, self.forwarder = checkpoint, plan, forwarder
        self.logits, self.names, self.wants_test = logits, names, wants_test
        self.outcome: dict[str, Any] | str = "not run: nothing was left to forward" if wants_test else "not asked for"
        self.self_test_seconds = self.write_seconds = 0.0
        self._seconds = 0.0
        self._events: list[tuple[Any, Any]] = []

    def run(self, partial: PartialRun, todo: Sequence[tuple[int, list[Batch]]], advance: Callable[[int], None]) -> None:
        """Forward the batches of every unfinished segment and store the segments."""
        tested = not self.wants_test
        finite = [array.path for array in partial.arrays if array.path.startswith(("residual", "logits/final"))]
        with SegmentWriter(partial, self.names, finite, self._beyond()) as writer:
            for segment, batches in todo:
                for batch in batches:
                    wanted = self.plan.continuations
                    texts = None if wanted is None else [wanted[row] for row in batch.rows]
                    result = self._timed(batch, texts)
                    if not tested:
                        self._test(batch, result, texts)
                        tested = True
                    writer.put(segment, batch.rows, HostCopy(self._tensors(result)), self._ready(batch, result))
                    advance(len(batch.rows))
        self.write_seconds = writer.busy_seconds

    def forward_seconds(self) -> float:
        """Seconds of forward passes (on a GPU: of the device)."""
        if self._events:
            torch.cuda.synchronize()
            return self._seconds + sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
        return self._seconds

    def _timed(self, batch: Batch, texts: Any) -> BatchResult:
        if self.checkpoint.device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            result = self.forwarder.run(batch, texts)
            end.record()
            self._events.append((begin, end))
            return result
        started = time.perf_counter()
        result = self.forwarder.run(batch, texts)
        self._seconds += time.perf_counter() - started
        return result

    def _test(self, batch: Batch, result: BatchResult, texts: Any) -> None:
        started = time.perf_counter()
        self.outcome = self_test(
            self.checkpoint,
            self.plan.token_ids,
            self.forwarder.reader,
            self.forwarder.positions,
            batch.rows,
            result,
            bridge=self.wants_test is True,
            continuations=texts,
        )
        self.self_test_seconds = time.perf_counter() - started

    def _tensors(self, result: BatchResult) -> dict[str, torch.Tensor]:
        return result.residual | ({"logits/final": result.logits} if self.logits == "full" else {})

    def _beyond(self) -> dict[str, np.ndarray]:
        """Which labels an item does not have, where NaN stands for them: ``[R, 1, K, 1]``."""
        at_labels = [path for path, (_, position) in self.forwarder.reader.paths.items() if position == "labels"]
        if not at_labels:
            return {}
        missing = np.array([row.labels for row in self.forwarder.positions]) < 0
        return dict.fromkeys(at_labels, missing[:, None, :, None])

    def _ready(self, batch: Batch, result: BatchResult) -> dict[str, np.ndarray]:
        if result.continuations is None:
            scores = label_scores(self.plan, list(batch.rows), result.logits)
        else:
            for row, options in zip(batch.rows, result.continuations, strict=True):
                if not torch.cat(options).isfinite().all():
                    raise NonFiniteError(self.names[row], "the likelihood of its options")
            scores = text_scores(self.plan, result.continuations)
        ready = {f"scores/{scoring}": values for scoring, values in scores.items()}
        if self.logits == "summary":
            bad = torch.nonzero(~torch.isfinite(result.logits).all(dim=1))
            if len(bad):
                raise NonFiniteError(self.names[batch.rows[int(bad[0])]], "logits/final")
            statistics = logit_statistics(result.logits)
            ready |= {f"logits/statistics/{name}": values for name, values in statistics.items()}
            values, ids = largest_logits(result.logits, min(LARGEST, result.logits.shape[1]))
            ready |= {"logits/largest_values": values, "logits/largest_ids": ids}
        return ready
