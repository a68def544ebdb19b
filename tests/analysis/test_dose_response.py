"""The summary of interventions: a hand case, independent loops, its invariances, and what it refuses."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from doubtlens.analysis import dose_response
from doubtlens.analysis.dose_response import rank_p

DOSES = (-2.0, -1.0, 1.0, 2.0)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def made(n: int = 30, n_random: int = 20, *, effect: float = 0.5, seed: int = 0, **keys: object) -> pd.DataFrame:
    """Outcomes in which a step of k along the probe raises total entropy by effect * k, give or take an item."""
    draw = np.random.default_rng(seed)
    base = {"total_entropy": draw.uniform(1, 2, n), "choice_entropy": draw.uniform(0, 1, n)}
    right, choice = (draw.uniform(size=n) < 0.5).astype(float), draw.integers(0, 4, n)
    right[:3] = np.nan
    own = draw.normal(0, 0.05, n)
    slopes = {-1: effect} | dict(enumerate(draw.normal(0, 0.1, n_random)))
    parts = [("none", "none", None, 0.0, 0.0)]
    for number, slope in slopes.items():
        direction = "probe" if number < 0 else "random"
        parts += [("add", direction, number if number >= 0 else None, dose, slope * dose) for dose in DOSES]
        parts.append(("remove", direction, number if number >= 0 else None, np.nan, slope / 3))
    rows = []
    for mode, direction, number, dose, shift in parts:
        flip = draw.uniform(size=n) < min(0.9, abs(shift)) if mode != "none" else np.zeros(n, bool)
        rows.append(
            pd.DataFrame(
                {
                    "item": [f"q{place}" for place in range(n)],
                    "mode": mode, "direction": direction, "draw": number, "dose": dose,
                    "total_entropy": base["total_entropy"] + shift * (1 + own),
                    "choice_entropy": base["choice_entropy"] - shift / 2,
                    "choice": np.where(flip, choice + 1, choice),
                    "correct": np.where(flip, 1 - right, right),
                    "changed": flip,
                    "subject": [f"s{place % 5}" for place in range(n)],
                }
            )
        )  # fmt: skip
    table = pd.concat(rows, ignore_index=True).assign(**keys)
    return table.assign(draw=table["draw"].astype("Int64"))


def row_of(found: pd.DataFrame, figure: str, mode: str, dose: float | None = None) -> pd.Series:
    part = found[(found["figure"] == figure) & (found["mode"] == mode) & (found["direction"] == "probe")]
    part = part if dose is None else part[part["dose"] == dose]
    assert len(part) == 1
    return part.iloc[0]


def test_two_items_by_hand() -> None:
    """Entropies 1 and 2; a step of 1 adds 1/2 and 1/4; three random directions add 1/8, -1/2 and 3/8 on average."""

    def rows(mode, direction, draw, dose, values):
        return pd.DataFrame({"item": ["a", "b"], "mode": mode, "direction": direction, "draw": draw, "dose": dose,
                             "total_entropy": values, "correct": [1.0, None]})  # fmt: skip

    table = pd.concat(
        [
            rows("none", "none", None, 0.0, [1.0, 2.0]),
            rows("add", "probe", None, 1.0, [1.5, 2.25]),
            rows("add", "probe", None, 3.0, [2.0, 3.0]),
            *(
                rows("add", "random", number, dose, [1 + dose * step, 2 + dose * step])
                for number, step in enumerate([1 / 8, -1 / 2, 3 / 8])
                for dose in (1.0, 3.0)
            ),
        ]
    ).astype({"draw": "Int64", "correct": float})
    found = dose_response(table, rng=rng())
    one = row_of(found, "total_entropy", "add", 1.0)
    assert (one["n"], one["n_random"]) == (2, 3)
    assert one["value"] == Fraction(15, 8)
    assert one["change"] == one["size"] == Fraction(3, 8)
    assert (one["random_low"], one["random_high"]) == (-0.5, 0.375)
    assert one["random_mean"] == 0
    assert one["p"] == Fraction(1 + 2, 1 + 3)
    assert one["size_random"] == pytest.approx(1 / 3)
    # sum k c_k / sum k²: (1 * 3/8 + 3 * 1) / 10
    assert one["slope"] == pytest.approx(27 / 80)
    assert one["slope_p"] == Fraction(1 + 2, 1 + 3)
    # A bootstrap of two items gives their two differences as its ends.
    assert (one["ci_low"], one["ci_high"]) == (0.25, 0.5)
    assert "3 random directions give no p below 0.250" in one["note"]
    accuracy = row_of(found, "accuracy", "add", 1.0)
    assert (accuracy["n"], accuracy["value"], accuracy["change"]) == (1, 1.0, 0.0)
    unedited = found[found["mode"] == "none"].set_index("figure")
    assert unedited.loc["total_entropy", ["value", "change"]].tolist() == [1.5, 0.0]


def test_every_number_equals_a_loop() -> None:
    table = made(layer=7)
    found = dose_response(table, n_bootstrap=4000, rng=rng())
    base = table[table["mode"] == "none"].set_index("item")["choice_entropy"]
    for dose in DOSES:
        row = row_of(found, "choice_entropy", "add", dose)
        assert row["layer"] == 7
        step = table[(table["mode"] == "add") & (table["dose"] == dose)]
        own = step[step["direction"] == "probe"].set_index("item")["choice_entropy"] - base
        others = [
            (part.set_index("item")["choice_entropy"] - base).mean()
            for _, part in step[step["direction"] == "random"].groupby("draw")
        ]
        assert row["change"] == pytest.approx(own.mean())
        assert row["size"] == pytest.approx(own.abs().mean())
        assert row["random_mean"] == pytest.approx(np.mean(others))
        assert (row["random_low"], row["random_high"]) == pytest.approx((min(others), max(others)))
        beaten = sum(abs(other) >= abs(own.mean()) for other in others)
        assert row["p"] == pytest.approx((1 + beaten) / 21)
    row = row_of(found, "total_entropy", "add", 2.0)
    own = table[(table["mode"] == "add") & (table["dose"] == 2.0) & (table["direction"] == "probe")]
    difference = (
        own.set_index("item")["total_entropy"] - table[table["mode"] == "none"].set_index("item")["total_entropy"]
    )
    half = 1.96 * difference.std(ddof=0) / np.sqrt(len(difference))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(
        (row["change"] - half, row["change"] + half), abs=0.1 * half
    )
    # A line of ordinary least squares through the origin.
    changes = [row_of(found, "total_entropy", "add", dose)["change"] for dose in DOSES]
    assert row["slope"] == pytest.approx(np.linalg.lstsq(np.array(DOSES)[:, None], np.array(changes))[0][0])
    assert row["slope_ci_low"] < row["slope"] < row["slope_ci_high"]
    assert row["slope_p"] == pytest.approx(1 / 21)


def test_columns_and_what_does_not_apply() -> None:
    found = dose_response(made(), rng=rng())
    assert set(found["figure"]) == {"choice_entropy", "total_entropy", "accuracy", "changed"}
    assert found[found["figure"] == "accuracy"]["n"].unique().tolist() == [27]
    probe = found[found["direction"] == "probe"]
    assert probe[["value", "change", "ci_low", "ci_high", "random_low", "p", "size", "size_p"]].notna().all(axis=None)
    assert probe["note"].isna().all()
    assert found.loc[found["figure"] == "changed", "slope"].isna().all()
    assert found.loc[found["mode"] != "add", "slope"].isna().all()
    random = found[found["direction"] == "random"]
    assert random[["change", "ci_low", "size"]].notna().all(axis=None)
    assert random[["p", "slope_p", "random_mean"]].isna().all(axis=None)
    assert random["draw"].nunique() == 20
    assert set(found["interval"]) == {"95% percentile, items"}
    changed = row_of(found, "changed", "add", 2.0)
    assert changed["change"] == changed["value"] > 0
    clusters = dose_response(made(), cluster="subject", rng=rng())
    assert set(clusters["interval"]) == {"95% percentile, 5 clusters of subject"}


def test_other_figures_can_be_named_and_open_prompts_have_one() -> None:
    found = dose_response(made(), figures=["accuracy"], rng=rng())
    assert set(found["figure"]) == {"accuracy"}
    open_prompt = made().drop(columns=["choice_entropy", "choice", "correct", "changed"])
    assert set(dose_response(open_prompt, rng=rng())["figure"]) == {"total_entropy"}


def test_the_order_of_rows_does_not_matter_and_groups_stay_apart() -> None:
    table = pd.concat([made(layer=1, target=None), made(layer=2, target=None, effect=-0.2, seed=3)])
    found = dose_response(table, rng=rng())
    shuffled = dose_response(table.sample(frac=1, random_state=0), rng=rng())
    order = ["layer", "figure", "mode", "direction", "draw", "dose"]
    pd.testing.assert_frame_equal(
        *(part.sort_values(order).reset_index(drop=True) for part in (found, shuffled)), check_dtype=False
    )
    alone = dose_response(table[table["layer"] == 2], rng=rng())
    pd.testing.assert_frame_equal(found[found["layer"] == 2].reset_index(drop=True), alone)


def test_no_random_directions_and_removal_alone() -> None:
    table = made()
    alone = dose_response(table[table["direction"] != "random"], rng=rng())
    row = row_of(alone, "total_entropy", "add", 1.0)
    assert (row["n_random"], row["note"]) == (0, "no random directions to compare with")
    assert np.isnan([row["p"], row["slope_p"], row["size_p"]]).all()
    removal = dose_response(table[table["mode"] != "add"], rng=rng())
    assert np.isfinite(row_of(removal, "total_entropy", "remove")["p"])


def test_ranks() -> None:
    assert rank_p(-2.0, np.array([1.0, 2.0, -3.0, 0.5])) == 3 / 5
    assert rank_p(0.0, np.zeros(4)) == 1.0
    assert rank_p(0.3, np.array([0.1 + 0.2])) == 1.0  # equal but for rounding
    assert np.isnan(rank_p(1.0, np.empty(0)))


def test_p_values_are_uniform_where_the_probe_is_a_random_direction() -> None:
    draw = np.random.default_rng(5)
    found = [rank_p(values[0], values[1:]) for values in draw.standard_normal((2000, 20))]
    counts = np.bincount(np.rint(np.array(found) * 20).astype(int), minlength=21)[1:]
    assert counts.sum() == 2000
    assert abs(counts - 100).max() < 45


def test_a_saved_table_gives_the_same(tmp_path: Path) -> None:
    table = made(target=None, layer=3)
    table.to_parquet(tmp_path / "a.parquet")
    again = dose_response(pd.read_parquet(tmp_path / "a.parquet"), rng=rng())
    pd.testing.assert_frame_equal(again, dose_response(table, rng=rng()), check_dtype=False)


# Refusals.


def test_bad_tables_are_refused() -> None:
    table = made(n=5, n_random=2)
    with pytest.raises(TypeError, match=r"The table parameter of dose_response must be a pandas.DataFrame. Got dict"):
        dose_response(table.to_dict(), rng=rng())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must name columns of the table. Got 'dose', which the table lacks"):
        dose_response(table.drop(columns="dose"), rng=rng())
    with pytest.raises(ValueError, match=r"must have a column of choice_entropy, total_entropy, correct, changed"):
        dose_response(table[["item", "mode", "direction", "draw", "dose"]], rng=rng())
    with pytest.raises(ValueError, match=r"figures parameter of dose_response must be one of .* Got 'accurcy' instead"):
        dose_response(table, figures=["accurcy"], rng=rng())
    with pytest.raises(ValueError, match=r"write \['accuracy'\]"):
        dose_response(table, figures="accuracy", rng=rng())
    with pytest.raises(ValueError, match=r"one unedited condition .* Got 0 unedited among .*give the whole table"):
        dose_response(table[table["mode"] != "none"], rng=rng())
    with pytest.raises(ValueError, match=r"edits along the probe in every group. Got 1 unedited among"):
        dose_response(table[table["direction"] != "probe"], rng=rng())
    with pytest.raises(ValueError, match=r"every item once in every condition. Got 2 rows of {'mode': 'none'.*'q0'"):
        dose_response(pd.concat([table, table.iloc[:1]]), rng=rng())
    with pytest.raises(ValueError, match=r"every item once in every condition. Got 0 rows of .*'q4'"):
        dose_response(table.drop(index=table.index[-1]), rng=rng())
    gap = table.assign(total_entropy=table["total_entropy"].where(table.index != 7))
    with pytest.raises(
        ValueError, match=r"The total_entropy column .* must have a value in every condition of an item"
    ):
        dose_response(gap, rng=rng())
    with pytest.raises(TypeError, match=r"The rng parameter of dose_response must be a numpy.random.Generator"):
        dose_response(table, rng=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"level parameter of dose_response must be within \(0, 1\)"):
        dose_response(table, level=95, rng=rng())
