"""The names that congruence hands on: one list, the same for readers, for Python and for type checkers."""

import ast
from pathlib import Path

import congruence as cg


def _typed_imports():
    tree = ast.parse(Path(cg.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {(node.module, alias.name, alias.asname) for node in block.body for alias in node.names}


def test_type_checkers_see_the_same_names_as_python():
    typed = {(module, name) for module, name, _ in _typed_imports()}
    lazy = {(f"congruence.{home}", name) for name, home in cg._HOME.items()}
    assert typed == lazy | {("congruence", name) for name in cg._SUBMODULES}
    assert all(name == alias for _, name, alias in _typed_imports())


def test_every_name_is_what_its_module_has():
    for name, home in cg._HOME.items():
        assert getattr(cg, name) is getattr(__import__(f"congruence.{home}", fromlist=[name]), name)


def test_submodules_are_reachable():
    for name in cg._SUBMODULES:
        assert getattr(cg, name).__name__ == f"congruence.{name}"
