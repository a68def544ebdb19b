"""One self-contained HTML page per study: findings, figures, sortable tables, warnings, and how to get them again.

The page asks the network for nothing, and a Content-Security-Policy in it forbids that: figures are inline SVG, style
and script are inline, and the script is allowed by its hash alone. Every text that comes from models, data or settings
is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from ..extract.atomic import write_bytes
from .figure_files import inline_svg, save_figure, svg_bytes
from .findings import Findings
from .gallery import study_figures
from .report_tables import is_number, report_tables
from .wording import count, number

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
HASHES = (
    ("weights", "weights"),
    ("tokenizer", "tokenizer"),
    ("items", "items"),
    ("prompts", "prompts"),
    ("digest", "run"),
)
PARTS = {
    "probes": "Layers",
    "behaviour": "Behaviour against representation",
    "two_targets": "Two targets",
    "interventions": "Interventions",
    "transfer": "Other runs",
}
"""Topics that stand under a heading of their own."""
FACTS = (
    ("checkpoint", "Checkpoint"),
    ("revision", "Revision"),
    ("source", "Weights from"),
    ("dtype", "dtype"),
    ("device", "Device"),
    ("dataset", "Dataset"),
    ("prompt", "Prompt"),
    ("chat", "Chat template"),
    ("option_order", "Option order"),
    ("permutations", "Permutations"),
    ("scorings", "Scorings"),
    ("sites", "Sites"),
    ("n_layers", "Layers"),
    ("d_model", "Width"),
    ("vocab_size", "Vocabulary"),
    ("logits", "Logits kept"),
    ("path", "Way of the forward pass"),
    ("seed", "Seed"),
)


def write_report(
    findings: Findings,
    path: str | Path,
    *,
    study: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]] = (),
    figures: str | Path | None = None,
    command: str | None = None,
) -> list[Path]:
    """Write the report of a study as one HTML file.

    Args:
        findings: what `find` returned.
        path: of the page; its folder must exist. An old page is replaced when the new one is whole.
        study: the study's settings; `name` is the title, and all of it is printed as YAML.
        runs: what is known of each run: the `info` of the run files, with `example`, the text of a prompt, and `n`, the
            number of items, where they are to be shown. Keys that are missing are left out. See docs/report.md.
        figures: folder in which every figure is also saved as SVG and PDF; made where missing.
        command: what to type to get the same study again; by default `doubtlens run` with the study's settings.

    Returns:
        The paths written, the page first. The same arguments give the same bytes.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
        OSError: the disk is full or refuses; the old page stays.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The path parameter of write_report must lie in a folder that exists. Got {str(path)!r} instead; create "
            f"{str(path.parent)!r} first."
        )
    plates, saved = [], []
    for position, plate in enumerate(study_figures(findings), start=1):
        svg = svg_bytes(plate.figure)
        inline = inline_svg(svg, prefix=f"figure-{position}", label=plate.caption)
        plates.append({"plate": plate, "number": position, "svg": inline})
        if figures is not None:
            Path(figures).mkdir(parents=True, exist_ok=True)
            saved += save_figure(plate.figure, Path(figures) / plate.stem, svg=svg)
    write_bytes(path, render_report(findings, plates, study=study, runs=runs, command=command).encode())
    return [path, *saved]


def render_report(
    findings: Findings,
    plates: Sequence[Mapping[str, Any]],
    *,
    study: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    command: str | None,
) -> str:
    """Fill the template: see `write_report`; a plate is a `Plate`, its number and its inline SVG."""
    script = _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.tests["number"] = is_number
    environment.filters["unbroken"] = _unbroken
    template = environment.from_string(_resource("report.html.jinja"))
    name = str(study.get("name", "study"))
    places = list(dict.fromkeys((part.dataset, part.prompt) for part in findings.paragraphs))
    return template.render(
        title=name,
        doubtlens=version("doubtlens"),
        style=Markup(_resource("report.css")),
        script=Markup(script),
        script_hash=digest,
        findings=findings,
        serious=[warning for warning in findings.warnings if warning.grade == "serious"],
        notes=[warning for warning in findings.warnings if warning.grade != "serious"],
        places=places,
        parts=PARTS,
        plates=plates,
        tables=list(report_tables(findings)),
        runs=[_run(run) for run in runs],
        scope=_scope(findings),
        settings=yaml.safe_dump(dict(study), sort_keys=False, allow_unicode=True),
        command=command or "doubtlens run study.yaml",
        versions=_versions(runs),
        seed=findings.settings["seed"],
        n_bootstrap=findings.settings["n_bootstrap"],
        interval={"percentile": "percentile", "bca": "BCa"}[findings.settings["interval"]],
        cluster=findings.settings["cluster"],
    )


def _printable(value: Any) -> Any:
    """Show control characters, which HTML forbids, as replacement characters."""
    return (
        _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
        if isinstance(value, str) and not isinstance(value, Markup)
        else value
    )


def _unbroken(text: str) -> str:
    """Keep intervals and comparisons on one line."""
    text = re.sub(r"\[[^\[\]]{1,24}\]", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    return re.sub(r"\b(\w) ([=<]) (?=[\d−])", "\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", text)


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _scope(findings: Findings) -> str:
    """Say how much the study holds: 1 model, 2 datasets, 3 runs."""
    overview = findings.overview
    parts = [count(overview[key].nunique(), key) for key in ("model", "dataset") if key in overview]
    keys = [key for key in ("model", "dataset", "prompt") if key in overview]
    parts.append(count(len(overview.drop_duplicates(keys)) if keys else 1, "run"))
    return ", ".join(parts)


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Prepare what the page says of one run."""
    facts = [(label, _plain(run[key])) for key, label in FACTS if run.get(key) is not None]
    timings = run.get("timings") or {}
    return {
        "model": _plain(run.get("model", "–")),
        "dataset": _plain(run.get("dataset", "–")),
        "prompt": _plain(run.get("prompt", "–")),
        "n": f"{int(run['n']):,}" if run.get("n") is not None else "",
        "dtype": _plain(run.get("dtype", "")),
        "chat": {True: "yes", False: "no"}.get(run.get("chat"), ""),  # type: ignore[arg-type]
        "seconds": number(float(timings["forward_s"]), 1) if "forward_s" in timings else "",
        "self_test": _self_test(run.get("self_test")),
        "facts": facts,
        "timings": [
            (key.removesuffix("_s").replace("_", " "), number(float(value), 1)) for key, value in timings.items()
        ],
        "excluded": [(str(left["item"]), str(left["reason"])) for left in run.get("excluded") or []],
        "example": run.get("example"),
        "hashes": [(label, str(run[key])) for key, label in HASHES if run.get(key)],
    }


def _self_test(outcome: Any) -> str:
    """Say in a few words how far the captured numbers were from the references of the self-test."""
    if not isinstance(outcome, Mapping):
        return _plain(outcome) if outcome else ""
    told = []
    for reference, name in (("alone", "run alone"), ("bridge", "TransformerLens"), ("float32_noise", "float32")):
        errors = outcome.get(reference)
        if isinstance(errors, Mapping) and errors:
            relative = [float(error) for key, error in errors.items() if key != "largest_logit_difference"]
            told.append(f"{name} {max(relative):.0e}" if relative else name)
        elif isinstance(errors, str):
            told.append(f"{name} {errors}")
    tolerance = f" (tolerance {float(outcome['tolerance']):.0e})" if "tolerance" in outcome else ""
    return "; ".join(told) + tolerance


def _versions(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """List the library versions of all runs, each name with every version that occurs."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, value in (run.get("versions") or {}).items():
            found.setdefault(str(name), {})[str(value)] = None
    return [(name, ", ".join(values)) for name, values in sorted(found.items())]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)
