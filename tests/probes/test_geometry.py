"""Base against instruct: CKA and the cosine of directions, planted and absent; explicit loops; refusals."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from doubtlens.probes.directions import pair_targets
from doubtlens.probes.folds import TargetError
from doubtlens.probes.geometry import geometry
from doubtlens.probes.layers import run_target
from doubtlens.probes.matched_items import MatchedItems
from doubtlens.probes.model_directions import model_cosines
from doubtlens.probes.similarity import KernelAlignment, cka

ENTROPY = "human_entropy_normalized"


class ModelRun:
    """A run of one of two models on the same n items; layer 1 knows the human entropy along `direction`."""

    sites = ["resid_post"]  # noqa: RUF012
    positions = ["last"]  # noqa: RUF012
    scorings = ("label_single",)
    layers = [0, 1]  # noqa: RUF012

    def __init__(self, model, *, n=80, d=8, seed=0, strength=4.0, direction=0, shared=1.0, groups=8):
        rng = np.random.default_rng(0)
        share = rng.integers(1, 50, n) / 100
        self.items = pd.DataFrame(
            {
                "id": [f"q{row}" for row in range(n)],
                "question": [f"what {row}?" for row in range(n)],
                "options": [["yes", "no"]] * n,
                "answer": pd.array(rng.integers(0, 2, n), dtype="Int64"),
                "responses": pd.Series([[100 * one, 100 - 100 * one] for one in share], dtype=object),
                "respondents": pd.array([100] * n, dtype="Int64"),
                "subject": [f"s{row % groups}" for row in range(n)],
                "n_options": 2,
            }
        )
        self.info = {"model": model, "dataset": "made", "prompt": "plain", "weights": f"{model} {seed}", "n_layers": 2}
        own = np.random.default_rng([seed, len(model)])
        self.activations = np.empty((2, n, d))
        common = rng.standard_normal((2, n, 8))
        self.activations[:] = own.standard_normal((2, n, d))
        self.activations[:, :, :8] = shared * common + (1 - shared) * self.activations[:, :, :8]
        self.activations[1, :, direction] += strength * self.target()
        self.scores = own.standard_normal((n, 2))

    def target(self, name=ENTROPY):
        return run_target(self, name).values

    def residual(self, layer, site="resid_post", position="last"):
        return self.activations[self.layers.index(layer)].astype(np.float32)

    def choice_scores(self, scoring):
        return self.scores


def compared(base=None, instruct=None, seed=0, **settings):
    base = ModelRun("base") if base is None else base
    instruct = ModelRun("tuned") if instruct is None else instruct
    settings = {"n_permutations": 49, "n_halvings": 2, "progress": False, "penalties": [1.0, 100.0]} | settings
    return geometry(base, instruct, rng=np.random.default_rng(seed), **settings)


# --- what it is for -------------------------------------------------------------------------------------


def test_models_that_are_alike_and_share_a_direction():
    table = compared(instruct=ModelRun("tuned", shared=0.7))
    assert table["layer"].tolist() == [0, 1]
    assert table["pair"].tolist() == ["base", "base"]
    assert table[["base", "instruct", "dataset", "prompt"]].iloc[0].tolist() == ["base", "tuned", "made", "plain"]
    assert (table["cka_ci_low"] > 0.5).all()
    assert (table["cka_ci_low"] < table["cka"]).all()
    assert (table["cka"] < table["cka_ci_high"]).all()
    assert (table["cka_p"] == 0.02).all()
    assert (table["cka_null_mean"].abs() < 0.1).all()
    row = table.iloc[1]
    assert row["cosine"] > 0.5
    assert (row["cosine_p"], row["cosine_p_max"]) == (0.02, 0.02)
    assert row["cosine_plain"] > 0.4
    assert row["cosine_disattenuated"] == pytest.approx(1.0, abs=0.25)
    assert row["cosine_disattenuated"] == pytest.approx(
        row["cosine"] / np.sqrt(row["base_reliability"] * row["instruct_reliability"])
    )
    assert (row["target"], row["n_target"], row["n"], row["n_groups"]) == (ENTROPY, 80, 80, 8)
    assert row["permutation"] == "within"


def test_a_direction_that_moved_has_no_cosine():
    row = compared(instruct=ModelRun("tuned", direction=5), layers=[1], groups=None).iloc[0]
    assert row["base_reliability"] > 0.5
    assert row["instruct_reliability"] > 0.5
    assert abs(row["cosine_plain"]) < 0.4
    assert row["cosine_plain_p"] > 0.05


def test_the_noise_of_a_shared_target_is_no_shared_direction():
    """Both models know the items equally well and nothing of the target: fitted to all items, they would agree."""
    agree, found = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((60, 30)), rng.standard_normal(60)
        weights = [Ridge(alpha=10.0).fit(side, y).coef_ for side in (x, x + 0.1 * rng.standard_normal((60, 30)))]
        agree.append(weights[0] @ weights[1] / np.linalg.norm(weights[0]) / np.linalg.norm(weights[1]))
        pair = pair_targets(y, y, n_halvings=2, n_permutations=19, permute=None, rng=rng)
        found.append(model_cosines(x, x + 0.1 * rng.standard_normal((60, 30)), pair, [10.0])["covariance"])
    assert min(agree) > 0.9
    assert abs(np.mean([one.cosine for one in found])) < 0.15
    assert np.sum([one.p <= 0.05 for one in found]) <= 2


def test_two_models_that_have_nothing_in_common():
    table = compared(instruct=ModelRun("tuned", shared=0.0, seed=3, strength=0), layers=[0])
    assert table["cka"].abs().max() < 0.15
    assert (table["cka_p"] > 0.05).all()
    assert (table["cka_ci_low"] < 0).all()


# --- equal to explicit loops ----------------------------------------------------------------------------


def test_cosines_equal_a_loop_over_halves():
    rng = np.random.default_rng(0)
    x, z, y, t = (
        rng.standard_normal((40, 5)), rng.standard_normal((40, 5)), rng.standard_normal(40), rng.standard_normal(40),
    )  # fmt: skip
    pair = pair_targets(y, t, n_halvings=3, n_permutations=2, permute=None, rng=rng)
    found = model_cosines(x, z, pair, [5.0])

    def direction(side, rows, target):
        scale = side[rows].std(0)
        return Ridge(alpha=5.0).fit(side[rows] / scale, target[rows]).coef_ / scale

    pooled = (np.cov(x.T, bias=True) + np.cov(z.T, bias=True)) / 2
    for metric, matrix in (("covariance", pooled), ("plain", np.eye(5))):

        def cosine(u, v, matrix=matrix):
            return u @ matrix @ v / np.sqrt((u @ matrix @ u) * (v @ matrix @ v))

        def mean(columns, cosine=cosine):
            first, second = columns
            values = []
            for a, b in pair.halves:
                values.append(cosine(direction(x, a, first), direction(z, b, second)))
                values.append(cosine(direction(x, b, first), direction(z, a, second)))
            return np.mean(values)

        one = found[metric]
        assert one.cosine == pytest.approx(mean((y, t)), abs=1e-9)
        for draw in (0, 1):
            permuted = pair.first[:, draw + 1], pair.second[:, draw + 1]
            expected = [mean((y, permuted[1])), mean((permuted[0], t)), mean(permuted)]
            assert one.null[:, draw] == pytest.approx(expected, abs=1e-9)
        own = [cosine(*(direction(side, half, target) for half in halves))
               for halves in pair.halves for side, target in ((x, y), (z, t))]  # fmt: skip
        assert one.reliability == pytest.approx([np.mean(own[::2]), np.mean(own[1::2])], abs=1e-9)


def test_the_columns_of_cka_are_those_of_similarity():
    base, instruct = ModelRun("base"), ModelRun("tuned", shared=0.5)
    instruct.activations[:, :, 3] *= 50
    row = compared(base, instruct, layers=[0], targets=()).iloc[0]
    x, z = (run.residual(0).astype(float) for run in (base, instruct))
    codes = np.arange(80) % 8
    assert row["cka"] == pytest.approx(cka(x, z))
    assert row[["cka_ci_low", "cka_ci_high"]].tolist() == pytest.approx(KernelAlignment.of(x, z).interval(codes))
    assert row["cka_standardized"] == pytest.approx(cka(x / x.std(0), z / z.std(0)))
    assert row["cka_standardized"] > row["cka"] + 0.1
    assert row["target"] is None
    assert "cosine" not in row


def test_items_are_permuted_within_their_groups():
    """Subjects that both models tell apart stay alike in the null."""
    base, instruct = ModelRun("base", shared=0.0), ModelRun("tuned", shared=0.0, seed=1)
    centres = 3 * np.random.default_rng(0).standard_normal((8, 8))[np.arange(80) % 8]
    for run in (base, instruct):
        run.activations[0] += centres
    within = compared(base, instruct, layers=[0], targets=()).iloc[0]
    free = compared(base, instruct, layers=[0], targets=(), permute="free").iloc[0]
    assert within["cka"] == free["cka"] > 0.5
    assert within["cka_null_mean"] > 0.5
    assert within["cka_p"] > 0.05
    assert abs(free["cka_null_mean"]) < 0.1
    assert free["cka_p"] == 0.02


# --- items ----------------------------------------------------------------------------------------------


def test_items_are_matched_by_id_in_any_order():
    base, instruct = ModelRun("base"), ModelRun("tuned", shared=0.7)
    expected = compared(base, instruct)
    order = np.random.default_rng(4).permutation(80)
    instruct.items = instruct.items.iloc[order].reset_index(drop=True)
    instruct.activations, instruct.scores = instruct.activations[:, order], instruct.scores[order]
    pd.testing.assert_frame_equal(compared(base, instruct), expected)
    instruct.items.loc[:4, "id"] = [f"new{row}" for row in range(5)]
    table = compared(base, instruct)
    assert table[["n", "n_base_only", "n_instruct_only"]].iloc[0].tolist() == [75, 5, 5]
    matched = MatchedItems.of(base, instruct, caller="f")
    assert base.items["id"][matched.first].tolist() == instruct.items["id"][matched.second].tolist() == matched.ids
    assert matched.second_only == [f"new{row}" for row in range(5)]


def test_correctness_is_that_of_each_model():
    table = compared(instruct=ModelRun("tuned", seed=2), targets=[ENTROPY, "correct"], scoring="label_single")
    assert table["target"].tolist() == [ENTROPY, "correct"] * 2
    assert table["scoring"].isna().tolist() == [True, False] * 2
    assert table["scoring"][1] == "label_single"
    assert table["layer"].tolist() == [0, 0, 1, 1]


def test_missing_targets_leave_an_item_out_of_the_cosine_alone():
    base, instruct = ModelRun("base"), ModelRun("tuned")
    base.items.at[3, "responses"] = None
    row = compared(base, instruct, layers=[0]).iloc[0]
    assert (row["n"], row["n_target"]) == (80, 79)


def test_other_widths_have_a_cka_and_no_cosine():
    table = compared(instruct=ModelRun("tuned", d=12))
    assert table["cka"].notna().all()
    assert table["cosine"].isna().all()
    assert table["cosine_null"].isna().all()
    assert table["note"][0] == "no cosine: 8 features in the base model, 12 in the instruct model"


def test_a_layer_of_equal_activations():
    base = ModelRun("base")
    base.activations[0] = 2.5
    table = compared(base)
    assert table.loc[0, ["cka", "cka_p", "cosine", "cosine_p"]].isna().all()
    assert pd.isna(table.loc[0, "cosine_null"])
    assert table.loc[1, ["cka", "cosine", "cosine_p"]].notna().all()


def test_keys_that_differ_are_both_named():
    instruct = ModelRun("tuned")
    instruct.info["prompt"] = "chat"
    row = compared(instruct=instruct, layers=[0], targets=(), pair="mine").iloc[0]
    assert (row["pair"], row["prompt"]) == ("mine", "plain -> chat")


# --- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": [5]}, "layers parameter of geometry must name layers of the base run"),
        ({"layers": []}, "must name layers, each once"),
        ({"layers": [1, 1]}, "must name layers, each once"),
        ({"site": "resid_mid"}, "must name a site of the base run"),
        ({"position": "labels"}, "must name a position of the base run"),
        ({"n_permutations": 0}, "n_permutations parameter of geometry must be at least 1"),
        ({"targets": ["entropy"]}, "must name a target"),
        ({"penalties": 0.0}, "penalties parameter of geometry must be a positive number"),
        ({"n_halvings": 0}, "n_halvings parameter of .* must be at least 1"),
        ({"groups": "topic"}, "must name a column of the items"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        compared(**settings)


def test_runs_that_do_not_fit_are_refused():
    base, instruct = ModelRun("base"), ModelRun("tuned")
    instruct.info["weights"] = base.info["weights"]
    with pytest.raises(ValueError, match="Got 'base' and 'tuned', which have the same weights"):
        compared(base, instruct)
    instruct.info |= {"weights": "other", "n_layers": 3}
    with pytest.raises(ValueError, match=r"models of one depth.*Got 2 and 3 layers"):
        compared(base, instruct)
    instruct.info["n_layers"] = 2
    instruct.items["id"] = [f"new{row}" for row in range(80)]
    with pytest.raises(ValueError, match=r"runs of the same items. Got items q0, .* and 75 more and items new0"):
        compared(base, instruct)
    instruct = ModelRun("tuned")
    instruct.items.at[7, "question"] = "something else?"
    with pytest.raises(ValueError, match=r"ids that stand for another question .*: items q7; the runs"):
        compared(base, instruct)
    instruct = ModelRun("tuned")
    instruct.items.at[7, "responses"] = [50.0, 50.0]
    with pytest.raises(TargetError, match=f"Got another {ENTROPY} in the second run for items q7"):
        compared(base, instruct)
    instruct = ModelRun("tuned")
    instruct.activations[1, 4, 4] = np.inf
    with pytest.raises(ValueError, match=r"layer 1 of 'tuned' must be finite. Got NaN or inf in items q4"):
        compared(base, instruct)
    base.items["responses"] = None
    with pytest.raises(TargetError, match=f"needs the target '{ENTROPY}' for at least 8 items of both runs. Got 0"):
        compared(base, ModelRun("tuned"))


@pytest.mark.gpu
def test_a_gpu_gives_the_cosines_of_the_cpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    here, there = (compared(instruct=ModelRun("tuned", shared=0.7), device=device) for device in ("cpu", "cuda"))
    pd.testing.assert_frame_equal(here, there, rtol=1e-8, atol=1e-8)
