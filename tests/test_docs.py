"""The pages tell the truth: their links, files, commands and Python code are real."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import topos_rt
from topos_rt.cli import main, options
from topos_rt.engines import AUTO, BACKENDS
from topos_rt.formats import EXPORTERS
from topos_rt.formats.options import AXES, UNITS
from topos_rt.head.lod import LODS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "tests/data/*/*.md", "topos_rt/bundles/*/*.md")
    for path in ROOT.glob(pattern)
}
README = PAGES["README.md"]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"out"}
CHOICES = {"backend": {AUTO, *BACKENDS}, "format": {None, *EXPORTERS}, "units": UNITS, "up": AXES,
           "lod": set(map(str, LODS))}  # fmt: skip
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", PAGES)


def spans(page: str) -> list[str]:
    """Return the texts between single backquotes."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", PAGES[page]))


def code_lines(page: str) -> Iterator[str]:
    """Yield the lines of indented and fenced code but for Python, continued ones joined, without comments."""
    text = FENCED.sub(lambda found: "" if found[1] == "python" else "\n" + indented(found[2]), PAGES[page])
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("    ") and (code := re.split(r"\s#\s|\s{3,}", line.strip())[0]):
            yield code


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def commands(page: str) -> list[str]:
    """Return our command lines: those that fill a line, and inline ones with arguments."""
    lines = [re.sub(r"^\.venv/bin/", "", line) for line in code_lines(page)]
    inline = [span for span in spans(page) if re.match(r"topos-rt \w+ \S", span)]
    return [line for line in (*lines, *inline) if line.startswith("topos-rt ")]


def blocks(page: str) -> list[str]:
    """Return the blocks of fenced Python."""
    return [code for language, code in FENCED.findall(PAGES[page]) if language == "python"]


def slugs(path: Path) -> set[str]:
    """Return the anchors that GitHub makes from the headings of a page."""
    titles = re.findall(r"^#+ (.*)", FENCED.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in slugs(path), target


@each_page
def test_files_that_are_named_exist(page: str) -> None:
    for span in spans(page):
        folder, _, rest = span.partition("/")
        if re.fullmatch(r"[\w.*<>/-]+", span) and rest and folder in FOLDERS and rest != "_kernels":
            pattern = re.sub(r"<\w+>", "*", span.rstrip("/"))
            assert any(ROOT.glob(pattern)), span


@each_page
def test_modules_and_scripts_that_are_run_exist(page: str) -> None:
    for module in re.findall(r"python -m ([\w.]+)", PAGES[page]):
        path = ROOT / module.replace(".", "/")
        ours = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        assert ours or module == "pytest", module
    for script in re.findall(r"python (\w[\w/]*\.py)", PAGES[page]):
        assert (ROOT / script).is_file(), script


@each_page
def test_dotted_names_can_be_imported(page: str) -> None:
    for span in spans(page):
        if not (found := re.match(r"topos_rt((?:\.\w+)+)", span)) or span.endswith(".bench"):
            continue
        value: object = topos_rt
        for name in found[1].split(".")[1:]:
            path = f"{value.__name__}.{name}" if hasattr(value, "__path__") else ""  # type: ignore[attr-defined]
            value = getattr(value, name) if hasattr(value, name) else import_module(path)


@each_page
def test_extras_and_make_targets_exist(page: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for names in re.findall(r"(?:topos-rt|'\.)\[([\w,-]+)\]", PAGES[page]):
        assert set(names.split(",")) <= extras.keys(), names
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in code_lines(page):
        if line.startswith("make "):
            assert line.split()[1] in targets, line


@each_page
def test_commands_are_understood(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in commands(page):
        name, *words = shlex.split(line)[1:]
        understood: list[object] = []

        def run(arguments: object, console: object, found: list[object] = understood) -> int:
            if hasattr(arguments, "preset"):
                options.sampling(arguments)  # type: ignore[arg-type]
            for option, choices in CHOICES.items():
                assert getattr(arguments, option, None) in {None, *choices}
            found.append(arguments)
            return 0

        monkeypatch.setattr(import_module(f"topos_rt.cli.{main.COMMANDS[name][0]}"), "run", run)
        assert main.main([name, *words]) == 0 and understood, line


@each_page
def test_commands_that_are_mentioned_exist(page: str) -> None:
    for span in spans(page):
        if found := re.match(r"topos-rt (\w+)", span):
            assert found[1] in main.COMMANDS, span


@each_page
def test_python_compiles_and_uses_public_names_only(page: str) -> None:
    for code in blocks(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom | ast.Import):
                modules = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                assert not any(str(module).startswith("topos_rt.") for module in modules), ast.unparse(node)
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "topos_rt":
                assert node.attr in topos_rt.__all__


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 130


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("README.md")
    for name, portrait in {"portrait": "astronaut", "other": "hopper"}.items():
        shutil.copy(ROOT / "examples" / f"{portrait}.jpg", tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    topos_rt.generate("portrait.jpg", preset="fast").save("scan.ply")
    names: dict[str, object] = {}
    exec(code, names)
    head = names["head"]
    assert isinstance(head, topos_rt.HeadMesh)
    small = names["small"]
    assert isinstance(small, topos_rt.HeadMesh)
    assert len(small.triangles) * 2 == pytest.approx(len(head.triangles), rel=0.01)
    assert bytes(names["png"])[:4] == b"\x89PNG" and (tmp_path / "head.glb").stat().st_size > 0  # type: ignore[call-overload]


def test_every_page_in_docs_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), ["README.md"]
    while todo:
        page = todo.pop()
        seen.add(page)
        names = re.findall(r"\]\(([^)\s#:]+\.md)", PAGES[page])
        linked = {str(((ROOT / page).parent / name).resolve().relative_to(ROOT)) for name in names}
        todo += sorted(linked & PAGES.keys() - seen)
    assert {page for page in PAGES if page.startswith("docs/")} <= seen
