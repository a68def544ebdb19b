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
        "probe_controls",
        "learning_curve",
    ],
    "doubtlens.analysis": [
        "alignment",
        "agreement",
        "kendall_distance",
        "calibration",
        "ece",
        "behaviour_vs_representation",
    ],
}


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def called(packages: list[str]) -> str:
    """Code that imports the public names of packages and asks whether they can be called."""
    return "".join(
        f"from {package} import {', '.join(PUBLIC[package])}\n"
        f"for name, value in list(zip({PUBLIC[package]}, [{', '.join(PUBLIC[package])}])):\n"
        "    assert callable(value), (name, value)\n"
        for package in packages
    )


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_callable(package: str) -> None:
    run("import doubtlens\n" + called([package]))


def test_public_names_are_callable_after_every_submodule_was_imported() -> None:
    """When a module of the same name could stand in the way."""
    run(
        "import importlib, pkgutil, doubtlens\n"
        "for stage in ('extract', 'probes', 'analysis'):\n"
        "    package = importlib.import_module(f'doubtlens.{stage}')\n"
        "    for module in pkgutil.iter_modules(package.__path__):\n"
        "        importlib.import_module(f'doubtlens.{stage}.{module.name}')\n" + called(list(PUBLIC))
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
