"""The public names mean the same whatever was imported before."""

import subprocess
import sys

import pytest

PUBLIC = {
    "doubtlens": ["load_items", "load_checkpoint", "extract", "open_run", "run_study"],
    "doubtlens.probes": [
        "output_measures",
        "human_targets",
        "RidgeProbe",
        "LogisticProbe",
        "MassMeanProbe",
        "probe_layers",
    ],
    "doubtlens.analysis": ["alignment", "agreement", "kendall_distance", "calibration", "ece"],
}


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PUBLIC)
@pytest.mark.parametrize("everything_first", [False, True])
def test_public_names_are_callable(package: str, everything_first: bool) -> None:
    """Also after every submodule was imported, when a module of the same name could stand in the way."""
    names = ", ".join(PUBLIC[package])
    run(
        "import importlib, pkgutil, doubtlens\n"
        f"for stage in ('extract', 'probes', 'analysis') if {everything_first} else ():\n"
        "    package = importlib.import_module(f'doubtlens.{stage}')\n"
        "    for module in pkgutil.iter_modules(package.__path__):\n"
        "        importlib.import_module(f'doubtlens.{stage}.{module.name}')\n"
        f"from {package} import {names}\n"
        f"for name, value in list(zip('{names}'.split(', '), [{names}])):\n"
        "    assert callable(value), (name, value)\n"
    )


def test_the_stage_is_called_as_the_function() -> None:
    run(
        "import doubtlens.extract\n"
        "from doubtlens import extract\n"
        "from doubtlens.extract import extract as function, load_items\n"
        "try:\n    extract(None, load_items('opinions'), 'run.h5', logits='none')\n"
        "except ValueError as error:\n    assert 'unknown logits' in str(error), error\n"
        "else:\n    raise SystemExit('extract did not run')\n"
    )
