"""Recipes: what is accepted, and for what is not, one line that names the key, what was found, and the nearest one."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.app.recipe import Recipe, check_recipe, find_recipe, load_recipe
from striate.app.yaml import dump_yaml, load_yaml
from striate.errors import BadInput


def _load(tmp_path: Path, text: str, *overrides: str, size: str | None = None) -> Recipe:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    return load_recipe(file, overrides, size)


def _complaint(tmp_path: Path, text: str, *overrides: str, size: str | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        _load(tmp_path, text, *overrides, size=size)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "path", "nearest"),
    [
        ("name: a\nmodle: {}", "modle", "model"),
        ("name: a\nmodel: {hiden: 3}", "model.hiden", "model.hidden"),
        ("name: a\ntrain: {learning-rate: 3}", "train.learning-rate", "train.learning_rate"),
        ("name: a\nmodel: {start: {strde: 3}}", "model.start.strde", "model.start.stride"),
        ("name: a\npreprocess: {epsilo: 3}", "preprocess.epsilo", "preprocess.epsilon"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(tmp_path: Path, text: str, path: str, nearest: str) -> None:
    assert _complaint(tmp_path, text) == f"r.yaml: unknown key {path}; did you mean {nearest}?"


def test_a_key_like_no_other_lists_what_there_is(tmp_path: Path) -> None:
    assert "unknown key data.zzz; data has: limit, store" in _complaint(tmp_path, "name: a\ndata: {zzz: 1}")
    assert "unknown key zzz; a recipe has: augment, cluster, data," in _complaint(tmp_path, "name: a\nzzz: 1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {}", ["name", "required"]),
        ("name: a\nmodel: {hidden: many}", ["model.hidden", "integer", "'many'"]),
        ("name: a\nmodel: {hidden: 0}", ["model.hidden", "greater than or equal to 1", "0"]),
        ("name: a\nmodel: {hidden: 3.5}", ["model.hidden", "3.5"]),
        ("name: a\nmodel: 7", ["model", "7"]),
        ("name: a\nmodel: {visible: softmax}", ["model.visible", "'gaussian' or 'bernoulli'", "'softmax'"]),
        ("name: a\ntrain: {epochs: .inf}", ["train.epochs", "finite"]),
        ("name: a\ntrain: {learning_rate: .nan}", ["train.learning_rate", "finite"]),
        ("name: a\ntrain: {momentum: 1}", ["train.momentum", "less than 1"]),
        (
            "name: a\ncluster: {processes: 4}",
            ["unknown key cluster.processes", "cluster has: exchange, grid, mode, parts, sync_images, timeout_s, transport"],
        ),
        ("name: a\n1: 2", ["1"]),
        ("", ["holds no recipe"]),
        ("- a\n- b", ["holds no recipe"]),
        ("name: [a", ["line 1"]),
        ("name: a\nmodel: {}\nmodel: {}", ["line 3", "'model' stands twice"]),
        ("name: a\nmodel:\n  hidden: 3\n  hidden: 4", ["line 4", "'hidden' stands twice"]),
        ("name: a\nmodel: &m {}\ntrain: *m", ["line 3", "aliases"]),
        ("name: a\n? [x]\n: 3", ["line 2", "plain text"]),
        ("name: !!python/object/apply:os.system [ls]", ["line 1", "could not determine a constructor"]),
        ("name: a\x00", ["r.yaml"]),
        ("[" * 5000, ["nested deeper"]),
        ("name: a\nsizes: small", ["sizes"]),
        ("name: a\nsizes: {small: 3}", ["sizes"]),
        ("name: a\nsizes: {small: {model: {hiden: 3}}}", ["sizes.small", "model.hiden", "model.hidden"]),
    ],
)
def test_what_is_wrong_is_one_line_with_key_and_finding(tmp_path: Path, text: str, words: list[str]) -> None:
    complaint = _complaint(tmp_path, text)
    assert all(word in complaint for word in words), complaint


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    complaint = _complaint(tmp_path, "name: a\nmodel: {hidden: 0}\ntrain: {epoch: 3}")
    assert "model.hidden" in complaint and "train.epoch; did you mean train.epochs?" in complaint


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(BadInput, match=r"r\.yaml cannot be read"):
        load_recipe(tmp_path / "r.yaml")


def test_sizes_hold_differences_and_overrides_come_last(tmp_path: Path) -> None:
    text = (
        "name: a\nmodel: {hidden: 100, sigma: 0.5}\nsizes:\n  small: {model: {hidden: 10}}\n  paper: {model: {hidden: 1000}}\n"
    )
    assert _load(tmp_path, text).model.hidden == 100
    small = _load(tmp_path, text, size="small").model
    assert (small.hidden, small.sigma) == (10, 0.5)
    assert _load(tmp_path, text, "model.hidden=7", size="small").model.hidden == 7
    assert "no size 'gpu': it has small, paper" in _complaint(tmp_path, text, size="gpu")
    assert "one size only" in _complaint(tmp_path, "name: a", size="gpu")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.learning_rate=1e-4", 1e-4),
        ("train.learning_rate=1E-4", 1e-4),
        ("train.learning_rate=.5", 0.5),
        ("train.learning_rate=3", 3.0),
    ],
)
def test_numbers_on_the_command_line_are_numbers(tmp_path: Path, override: str, value: float) -> None:
    assert _load(tmp_path, "name: a", override).train.learning_rate == value


def test_overrides_reach_groups_that_the_file_leaves_out_and_null_takes_away(tmp_path: Path) -> None:
    recipe = _load(tmp_path, "name: a\npreprocess: {patch: 8}", "model.start.patch=6", "preprocess.patch=null")
    assert recipe.model.start is not None and recipe.model.start.patch == 6
    assert recipe.preprocess.patch is None
    assert _load(tmp_path, "name: a\npreprocess: {patch: 8}", "preprocess.patch=").preprocess.patch is None


@pytest.mark.parametrize("override", ["hidden", "=3", "sizes=3", "model.hidden=[1", "model.hidden.x=3"])
def test_an_override_that_is_none_is_named(tmp_path: Path, override: str) -> None:
    _complaint(tmp_path, "name: a", override)


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO", "y", "n"])
def test_words_that_yaml_1_1_takes_for_booleans_stay_words(word: str) -> None:
    assert load_yaml(f"a: {word}", "t") == {"a": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("1e-4", 1e-4),
        ("-2E5", -2e5),
        ("1.", 1.0),
        ("-.5", -0.5),
        ("12", 12),
        ("-0", 0),
        ("010", "010"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("null", None),
        ("~", None),
        ("e5", "e5"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    got = load_yaml(f"a: {text}", "t")["a"]
    assert got == value and type(got) is type(value)


def test_a_recipe_survives_the_round_trip_through_its_file(tmp_path: Path) -> None:
    text = "name: 'no'\ndata: {store: a b/c}\nmodel: {start: {patch: 6}}\ntrain: {learning_rate: 1e-7, chains: 5}"
    recipe = _load(tmp_path, text)
    assert check_recipe(load_yaml(dump_yaml(recipe.model_dump(mode="json")), "t"), "t") == recipe


def test_a_run_of_before_there_was_a_cluster_is_one_of_one_process(tmp_path: Path) -> None:
    assert _load(tmp_path, "name: a\ncluster: null").cluster == _load(tmp_path, "name: a").cluster
    assert _load(tmp_path, "name: a\ncluster: {mode: both}").cluster.mode == "both"


def test_recipes_are_found_by_path_by_name_and_by_last_name(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: own")
    assert find_recipe(tmp_path / "own.yaml") == tmp_path / "own.yaml"
    assert find_recipe("demo/patches").name == "patches.yaml"
    assert find_recipe("recipes/demo/patches.yaml").samefile(find_recipe("demo/patches"))
    assert find_recipe("whole") == find_recipe("learn/whole")


def test_a_name_that_is_none_gets_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"no recipe 'demo/patchs': did you mean demo/patches\?"):
        find_recipe("demo/patchs")
    with pytest.raises(BadInput, match=r"there are: .*demo/patches"):
        find_recipe("zzzzzz")


def test_a_name_that_two_recipes_share_is_not_guessed() -> None:
    """`patches` is demo/patches and learn/patches."""
    with pytest.raises(BadInput, match="demo/patches, learn/patches"):
        find_recipe("patches")
