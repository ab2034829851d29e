"""Every revert reason is tested, every function documented, the bindings are the sources'."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnilytics.chain.artefact import DEPLOYED, load_artefact
from omnilytics.chain.compile import BINDINGS, CONTRACTS, bindings, build, source_sha256

TESTS = Path(__file__).parent
SOURCES = sorted(CONTRACTS.glob("*.vy"))
REASON = re.compile(r'^[^#\n]*(?:, |raise )"([^"]+)"$', re.MULTILINE)
DEFINITION = re.compile(
    r"^((?:@\w+(?:\(.*\))?\n)+)def (\w+)\((.*?)\)(?: -> (.*?))?:\n    \"\"\"(.*?)\"\"\"",
    re.MULTILINE | re.DOTALL,
)

build()


def reasons(source: str) -> set[str]:
    """Return the reasons that a contract's text can refuse with."""
    without_texts = re.sub(r'"""[\s\S]*?"""', "", source)
    return set(REASON.findall(without_texts))


def asserted(tree: ast.AST) -> Iterator[str]:
    """Yield the strings that a test module gives to `refused`, itself or by a parametrisation."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name == "refused" or name.endswith("parametrize") or name == "refuses":
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def in_lists(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of dictionaries and tuples in functions that call `refused(reason)`."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        if any(ast.unparse(call) == "refused(reason)" for call in calls):
            for part in ast.walk(function):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def reasons_in_tests() -> set[str]:
    found: set[str] = set()
    for path in TESTS.glob("test_contract_*.py"):
        if path.name.startswith(("test_contract_machine", "test_contract_gas")):
            continue
        tree = ast.parse(path.read_text())
        found.update(asserted(tree))
        found.update(in_lists(tree))
    return found


def test_reasons_are_found() -> None:
    """Each assertion and each raise of the contracts has a reason, and the search sees it."""
    for path in SOURCES:
        text = re.sub(r'"""[\s\S]*?"""', "", path.read_text())
        statements = re.findall(r"^ +assert\b", text, re.MULTILINE)
        assert len(REASON.findall(text)) == len(statements), path.name
        assert not re.findall(r"^ +raise\b", text, re.MULTILINE), path.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_reason_is_tested(path: Path) -> None:
    assert reasons(path.read_text()) - reasons_in_tests() == set()


def test_no_reason_is_said_in_two_ways() -> None:
    """Reasons are short, plain and without a full stop."""
    for path in SOURCES:
        for reason in reasons(path.read_text()):
            assert re.fullmatch(r"[a-zV][A-Za-z ]{4,29}", reason), reason


@pytest.mark.parametrize("name", DEPLOYED)
def test_bindings_are_those_of_the_sources(name: str) -> None:
    """`compile --bindings` would change nothing but the formatting."""
    assert load_artefact(name).source_sha256 == source_sha256()
    committed = (BINDINGS / f"{name.lower()}.py").read_text()
    assert ast.dump(ast.parse(bindings(name))) == ast.dump(ast.parse(committed))


def test_bindings_are_of_the_deployed_contracts_alone() -> None:
    found = {path.stem for path in BINDINGS.glob("*.py")} - {"__init__"}
    assert found == {name.lower() for name in DEPLOYED}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_contracts_have_a_title_and_a_notice(path: Path) -> None:
    text = path.read_text().split('"""')[1]
    for tag in ("@title", "@license", "@notice"):
        assert tag in text


def definitions(text: str) -> dict[str, tuple[str, str, str, str]]:
    """Return decorators, parameters, result and text of each function, by its name."""
    return {
        name: (decorators, parameters, result, doc)
        for decorators, name, parameters, result, doc in DEFINITION.findall(text)
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_function_is_documented(path: Path) -> None:
    """Called from outside or from other modules: with every parameter and what it returns."""
    text = path.read_text()
    found = definitions(text)
    assert len(found) == len(re.findall(r"^def ", text, re.MULTILINE)), "a function without text"
    for name, (decorators, parameters, result, doc) in found.items():
        assert doc.strip().startswith("@notice"), name
        if name.startswith("_") and name != "__init__":
            continue
        names = re.findall(r"(\w+): ", parameters)
        assert re.findall(r"@param (\w+) \S", doc) == names, name
        assert ("@return" in doc) == bool(result), name
        assert "@external" in decorators or "@deploy" in decorators or "@internal" in decorators


@pytest.mark.parametrize("name", DEPLOYED)
def test_all_external_functions_are_seen(name: str) -> None:
    """The search above misses none that the compiler has; public variables have a comment."""
    text = (CONTRACTS / f"{name}.vy").read_text()
    found = {n for n, (decorators, *_) in definitions(text).items() if "@external" in decorators}
    variables = set(re.findall(r"^(\w+): public\(", text, re.MULTILINE))
    functions = {entry["name"] for entry in load_artefact(name).abi if entry["type"] == "function"}
    assert found | variables == functions
    lines = text.splitlines()
    for index, line in enumerate(lines):
        if re.match(r"\w+: public\(", line):
            before = lines[index - 1]
            assert before.startswith("#") or re.match(r"\w+: public\(", before), line
