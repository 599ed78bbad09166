"""Parts of pages that are made from the program and its results."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from extensions.pages import RESULTS, escape, findings_text, keys_text, recipes_text, results_text, verb_text
from PIL import Image
from sphinx.application import Sphinx
from tools.run import DOCS

from striate.app.main import VERBS, verb_parser
from striate.app.recipe import Recipe
from striate.app.recipe_files import shipped_recipes


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_verb_s_reference_has_every_option_and_argument(verb: str) -> None:
    """Asked of the parser itself; what is needed is said, and percent signs of defaults are filled in."""
    text = verb_text(verb)
    for action in verb_parser(verb)._actions:
        assert all(option in text for option in action.option_strings if option not in ("-h", "--help"))
        if action.required and action.option_strings:
            assert re.search(rf"{action.option_strings[-1]}\b[^|]*\|.*\(needed\)", text)
        assert all(str(choice) in text for choice in action.choices or ())
    assert "%(" not in text and "-h, --help" not in text.partition("| argument")[2]


def test_pages_of_papers_show_every_figure_that_was_measured() -> None:
    shown = "\n".join(path.read_text() for path in sorted((DOCS / "papers").glob("*.md")))
    for name in ("krizhevsky2009-small", "krizhevsky2012-small", "le2012-small"):
        asked = re.findall(rf"\{{findings\}} {name}(.*)", shown)
        numbers = [number for line in asked for number in line.split()]
        measured = [figure["figure"] for figure in _results(name)["figures"]]
        assert asked and (numbers == measured or asked == [""]), name


def test_a_table_of_figures_says_what_does_not_agree() -> None:
    """Against the file that it is made from."""
    for name in ("krizhevsky2009-small", "le2012-small"):
        lines = findings_text(name, []).splitlines()[2:]
        figures = _results(name)["figures"]
        assert len(lines) == len(figures)
        for line, figure in zip(lines, figures):
            assert line.startswith(f"| {figure['figure']} |") and escape(figure["ours"]) in line
            assert line.endswith("| agrees |") == figure["agrees"]
    with pytest.raises(KeyError):
        findings_text("le2012-small", ["99"])


def test_the_counts_on_the_papers_front_page_are_those_of_the_results() -> None:
    text = (DOCS / "papers" / "index.md").read_text()
    for name, row in (
        ("krizhevsky2009", r"\| 22; .*? \| (\d+) \|"),
        ("le2012", r"\| 6; .*? \| (\d+) \|"),
        ("krizhevsky2012", r"\| 6 \| (\d+) \|"),
    ):
        figures = _results(f"{name}-small")["figures"]
        found = re.search(row, text)
        assert found and int(found.group(1)) == sum(figure["agrees"] for figure in figures), name


def test_rows_of_a_benchmark_are_found_by_words_of_their_measure() -> None:
    text = results_text("parallel-cd", "received by 2")
    assert len(text.splitlines()) == 4 and "48 MB" in text and "296 MB" in text
    with pytest.raises(ValueError, match="no row"):
        results_text("parallel-cd", "no such words")


def test_recipes_are_listed_with_their_claims() -> None:
    text = recipes_text("")
    assert all(f"| `{name}` | " in text for name in shipped_recipes())
    assert "| `demo/patches` | 8x8 colour patches of a few photographs" in text


def test_every_key_of_a_recipe_is_described() -> None:
    text = keys_text()
    for group in Recipe.model_fields:
        assert f"`{group}" in text
    assert "| `preprocess.epsilon` | number | `0.0` | added to eigenvalues, in squared pixel levels |" in text
    assert "`model.stages[].size`" in text and "**model, for model.kind=sparse**" in text


def test_a_picture_that_a_page_drew_is_in_the_site_and_one_that_is_not_there_is_a_line(tmp_path: Path) -> None:
    """A site of one page, built by Sphinx."""
    for folder in ("docs/verbs", "drawn/verbs/page/out"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "drawn/verbs/page/out/a.png")
    shown = "".join(f"```{{drawn}} out/{name}.png\nOf {name}.\n```\n\n" for name in "ab")
    (tmp_path / "docs/verbs/page.md").write_text(f"# Page\n\n{shown}")
    settings = {
        "extensions": ["myst_parser", "sphinx.ext.autodoc", "extensions.pages"],
        "root_doc": "verbs/page",
        "drawn_folder": str(tmp_path / "drawn"),
    }
    site = tmp_path / "site"
    app = Sphinx(tmp_path / "docs", None, site, tmp_path / "trees", "html", settings, status=None, warningiserror=True)
    app.build()
    page = (site / "verbs/page.html").read_text()
    [source] = re.findall(r'<img alt="Of a." src="([^"]+)"', page)
    assert (site / "verbs" / source).read_bytes() == (tmp_path / "drawn/verbs/page/out/a.png").read_bytes()
    assert "(Of b. It is there once" in page


def test_text_is_shown_as_it_is() -> None:
    assert escape("for --likelihood, not a--b or ---") == "for `--likelihood`, not a--b or ---"
    assert escape("a_b <c> *d* `e` [f] |") == r"a\_b \<c\> \*d\* \`e\` \[f\] \|"


def _results(name: str) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads((RESULTS / "amd-epyc-2-threads" / f"{name}.json").read_text())
    return found


def test_pages_link_to_files_that_are_there() -> None:
    """Relative links, which GitHub follows as well."""
    for path in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), (path.name, target)
    assert Path(DOCS / "index.md").exists()
