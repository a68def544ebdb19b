"""Time of a sweep of logistic probes over layers, outer folds and penalties, against a loop of scikit-learn.

Prints one JSON object. Both sides have the same outer folds, inner folds and penalties: for every layer and outer fold
the features are standardised, the penalty is chosen by the log loss of five inner folds, and the probe is refitted.

- ours: `logistic_fold`, what `sweep(kind="logistic")` calls for every layer and fold; the tables of scores and
  intervals that a sweep makes of the predictions are left out, as on the other side;
- scikit-learn: a loop of `LogisticRegression` (L-BFGS) at the loosest of the tolerances 10^-2, 10^-3, ... at which no
  training objective is more than 10^-4 nats per row above ours. It is timed on some layers and folds, spread over
  both, and scaled to all.

Times are those of the processor, on one thread: matrices this small gain nothing from more. The ratio is time of the
peer / our time (above 1: we are faster). `minutes_of_200_permutations` is timed on a few layers and folds and scaled.

    python benchmarks/logistic_sweep.py --layers 30 --items 421 --features 576 --folds 10

With `--run RUN.h5` the activations and the target `correct` are those of a run.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from doubtlens import open_run
from doubtlens.probes.classifier_folds import logistic_fold
from doubtlens.probes.folds import outer_folds
from doubtlens.probes.layers import run_target
from doubtlens.probes.logistic_path import LogisticPath
from doubtlens.probes.ridge_path import Standardization

PENALTIES = [10.0**power for power in range(-6, 2)]  # 1e-6 to 10
SAME_LOSS = 1e-4  # nats per row


def make_layers(layers: int, items: int, features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw activations [layers, items, features] and labels like those of residual streams.

    Features are correlated (singular values fall as k^-0.7), differ in scale by orders of magnitude, and a few are
    far from 0 throughout. A quarter of the labels is 1; a layer tells more of them the nearer it is to the middle.
    """
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.normal(0, 0.5, features)
    scale[rng.choice(features, 3, replace=False)] *= 300
    offset = scale * rng.normal(0, 3, features)
    signal = rng.standard_normal(items)
    x = np.empty((layers, items, features))
    for layer in range(layers):
        latent = rng.standard_normal((items, features))
        latent[:, 20] += signal * np.exp(-((layer - layers / 2) ** 2) / layers)
        mixing, _ = np.linalg.qr(rng.standard_normal((features, features)))
        x[layer] = (latent * np.arange(1, features + 1) ** -0.7) @ mixing * np.sqrt(features) * scale + offset
    return x, (signal + rng.standard_normal(items) > 0.95).astype(float)


def lbfgs(z: np.ndarray, y: np.ndarray, c: float, tol: float) -> LogisticRegression:
    """Fit scikit-learn's default solver."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=c, tol=tol, max_iter=10_000).fit(z, y)


def sklearn_fold(train: np.ndarray, test: np.ndarray, y: np.ndarray, tol: float) -> tuple[float, np.ndarray]:
    """Chosen C, and predictions for the test rows, by a loop."""
    scaler = Standardization.of(train)
    z = scaler.apply(train)
    losses = np.zeros(len(PENALTIES))
    for rest, out in StratifiedKFold(5).split(z, y):
        for index, c in enumerate(PENALTIES):
            predicted = lbfgs(z[rest], y[rest], c, tol).predict_proba(z[out])[:, 1]
            losses[index] += log_loss(y[out], predicted, labels=[0.0, 1.0]) * len(out)
    c = PENALTIES[int(np.argmin(losses))]
    return c, lbfgs(z, y, c, tol).predict_proba(scaler.apply(test))[:, 1]


def objective(z: np.ndarray, y: np.ndarray, c: float, weights: np.ndarray, intercept: float) -> float:
    """Mean penalised loss in nats per row."""
    return float(np.logaddexp(0, (1 - 2 * y) * (z @ weights + intercept)).mean() + weights @ weights / (2 * c * len(y)))


def objectives(x: np.ndarray, y: np.ndarray, tol: float) -> tuple[list[float], list[float]]:
    """Objective at every penalty, ours and that of scikit-learn."""
    z = Standardization.of(x).apply(x)
    path = LogisticPath(z, caller="benchmark")
    fitted = path.fit(np.tile(y[:, None], (1, len(PENALTIES))), np.array(PENALTIES))
    weights = path.feature_weights(fitted).T
    ours = [objective(z, y, *each) for each in zip(PENALTIES, weights, fitted.intercept, strict=True)]
    theirs = []
    for c in PENALTIES:
        model = lbfgs(z, y, c, tol)
        theirs.append(objective(z, y, c, model.coef_[0], float(model.intercept_[0])))
    return ours, theirs


def main() -> None:
    """Compare losses, time the sweep and its peer, and estimate the null."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--items", type=int, default=421)
    parser.add_argument("--features", type=int, default=576)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--run", help="a run file: its layers, items and features in place of made ones")
    parser.add_argument("--peer-splits", type=int, default=10, help="layers and folds that the peer is timed on")
    parser.add_argument("--null-splits", type=int, default=2, help="layers and folds that the null is timed on")
    parser.add_argument("--device", default="cpu", help="where our side computes")
    arguments = parser.parse_args()
    if arguments.run:
        run = open_run(arguments.run)
        x = np.stack([run.residual(layer) for layer in run.layers]).astype(np.float64)
        y = run_target(run, "correct", None).values
    else:
        x, y = make_layers(arguments.layers, arguments.items, arguments.features)
    n_layers, n, d = x.shape
    folds = outer_folds(y, n_splits=arguments.folds, rng=np.random.default_rng(1))
    whole = n_layers * len(folds.test)
    spread = np.linspace(0, n_layers - 1, arguments.peer_splits).astype(int).tolist()
    splits = [(x[layer], layer, number % len(folds.test)) for number, layer in enumerate(spread)]
    device, first = {"device": arguments.device}, np.array([0])

    torch.set_num_threads(1)
    with threadpool_limits(1):
        tol = 0.1
        excess = np.array([np.inf])
        while excess.max() > SAME_LOSS:
            tol /= 10
            found = [objectives(rows[folds.train(fold)], y[folds.train(fold)], tol) for rows, _, fold in splits]
            ours, theirs = np.array(found).swapaxes(0, 1)
            excess = theirs - ours

        # The wall clock where a GPU works: the processor waits for it.
        clock = time.process_time if arguments.device == "cpu" else time.perf_counter
        start = clock()
        fitted = {}
        for layer, rows in enumerate(x):
            for fold, test in enumerate(folds.test):
                train = folds.train(fold)
                fit = logistic_fold(rows[train], rows[test], y[train, None], None, PENALTIES, first, **device)
                fitted[layer, fold] = fit.penalty[0], fit.test[:, 0]
        our_seconds = clock() - start
        times, same, difference = [], 0, 0.0
        for rows, layer, fold in splits:
            train, test = folds.train(fold), folds.test[fold]
            start = time.process_time()
            c, predicted = sklearn_fold(rows[train], rows[test], y[train], tol)
            times.append(time.process_time() - start)
            our_c, ours_predicted = fitted[layer, fold]
            if c == our_c:
                same += 1
                difference = max(difference, float(np.abs(predicted - ours_predicted).max()))
        null = []
        rng = np.random.default_rng(3)
        for rows, _, fold in splits[: arguments.null_splits]:
            train, test = folds.train(fold), folds.test[fold]
            columns = np.column_stack([rng.permutation(y[train]) for _ in range(200)])
            start = clock()
            logistic_fold(rows[train], rows[test], columns, None, PENALTIES, first, **device)
            null.append(clock() - start)
    result = {
        "layers": n_layers,
        "items": n,
        "features": d,
        "folds": len(folds.test),
        "penalties": PENALTIES,
        "fits": whole * (5 * len(PENALTIES) + 1),
        "device": arguments.device,
        "seconds": {"ours": round(our_seconds, 1), "scikit_learn": round(whole * statistics.mean(times), 1)},
        "ratio_scikit_learn": round(whole * statistics.mean(times) / our_seconds, 1),
        "scikit_learn_timed_on": f"{len(splits)} of {whole} layers and folds",
        "scikit_learn_tolerance": float(f"{tol:.0e}"),
        "mean_objective": {"ours": round(float(ours.mean()), 7), "scikit_learn": round(float(theirs.mean()), 7)},
        "excess_of_scikit_learn": {"least": float(f"{excess.min():.1e}"), "largest": float(f"{excess.max():.1e}")},
        "same_penalty_chosen": f"{same} of {len(splits)}",
        "largest_difference_of_predictions": float(f"{difference:.1e}"),
        "minutes_of_200_permutations": round(whole * statistics.mean(null) / 60, 1) if null else None,
        "peak_memory_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
