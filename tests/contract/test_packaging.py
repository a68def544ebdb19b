"""What is installed, and what imports what."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
SOURCES = ("src/doubtlens", "extract", "probes", "analysis", "configs")
# What each stage may import of the others, and "" for the front door.
ALLOWED = {
    "extract": {"extract"},
    "probes": {"extract", "probes"},
    "analysis": {"extract", "probes", "analysis"},
    "configs": set(),
    "": {"", "extract", "probes", "analysis", "configs"},
}
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for source in SOURCES
    for path in (ROOT / source).rglob("*.py")
    if "__pycache__" not in path.parts
)


def folders_with_init():
    return sorted({str(Path(module).parent) for module in MODULES if module.endswith("__init__.py")})


def test_every_package_folder_is_installed():
    assert folders_with_init() == sorted(TOOL["package-dir"].values())
    assert sorted(TOOL["packages"]) == sorted(TOOL["package-dir"])


def test_package_names_mirror_the_folders():
    for name, folder in TOOL["package-dir"].items():
        inner = name.removeprefix("doubtlens").removeprefix(".").replace(".", "/")
        assert folder == (inner or "src/doubtlens")


def test_every_folder_with_modules_is_a_package():
    assert {str(Path(module).parent) for module in MODULES} == set(folders_with_init())


def stage_of(module):
    """The stage a dotted name inside doubtlens belongs to: "" for the front door."""
    first = module.split(".")[1] if "." in module else ""
    return first if first in ALLOWED else ""


def imported(path):
    """Dotted names of every doubtlens module that a file imports, wherever in it the import stands."""
    folder = str(Path(path).parent)
    package = next(name for name, where in TOOL["package-dir"].items() if where == folder)
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "doubtlens")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            if base.split(".")[0] == "doubtlens":
                yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES)
def test_imports_flow_one_way(path):
    folder = Path(path).parts[0]
    stage = "" if folder == "src" else folder
    for name in imported(path):
        assert stage_of(name) in ALLOWED[stage], f"{path} imports {name}"


def test_the_import_reader_sees_relative_imports():
    assert "doubtlens.extract.names.unknown_name" in set(imported("src/doubtlens/stages.py"))
    assert {stage_of("doubtlens.cli"), stage_of("doubtlens.extract.store"), stage_of("doubtlens")} == {"", "extract"}


def loaded_modules(code):
    """Names in sys.modules after running some code in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_analysis_does_not_load_torch():
    code = """
import importlib, pkgutil
import doubtlens.analysis
for module in pkgutil.walk_packages(doubtlens.analysis.__path__, "doubtlens.analysis."):
    importlib.import_module(module.name)
for name in doubtlens.analysis.__all__:
    getattr(doubtlens.analysis, name)
"""
    loaded = loaded_modules(code)
    assert "doubtlens.analysis.agreement" in loaded
    assert not loaded & {"torch", "transformers"}


def test_reading_runs_and_signals_does_not_load_torch():
    loaded = loaded_modules(
        "from doubtlens import load_items, open_run, load_study\n"
        "from doubtlens.probes import load_signals\n"
        "load_items('opinions'); load_study('quickstart')"
    )
    assert "doubtlens.extract.store" in loaded
    assert not loaded & {"torch", "transformers"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"""
import sys
sys.argv = ["doubtlens", *{arguments!r}]
from doubtlens.cli import app
try:
    app()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    loaded = loaded_modules(code)
    assert "doubtlens.cli" in loaded
    heavy = {"torch", "transformers", "pandas", "numpy", "h5py", "sklearn", "scipy", "matplotlib"}
    assert not loaded & heavy
