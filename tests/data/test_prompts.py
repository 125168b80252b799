"""Prompts: every benchmark's own layout is read, every mistake is named with its line."""

import json

import pytest

from detokenizers.data.prompts import Prompt, read_prompts


@pytest.fixture
def written(tmp_path):
    def write(name, *lines):
        path = tmp_path / name
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
        return path

    return write


def test_a_text_file_has_one_prompt_a_line(written):
    assert read_prompts(written("a.txt", "a dog", " a cat ")) == [Prompt("00000", "a dog"), Prompt("00001", "a cat")]


def test_jsonl_keeps_ids_categories_and_seeds(written):
    path = written("a.jsonl", {"prompt": "a dog", "id": "x", "seed": 3}, {"prompt": "a cat", "category": "pets"})
    assert read_prompts(path) == [Prompt("x", "a dog", seed=3), Prompt("00001", "a cat", "pets")]


def test_geneval_lines_get_their_folder_names_and_tasks(written):
    line = {"tag": "counting", "include": [{"class": "clock", "count": 2}], "prompt": "a photo of two clocks"}
    path = written("evaluation_metadata.jsonl", line, line | {"tag": "single_object"})
    first, second = read_prompts(path)
    assert (first.id, first.category) == ("00000", "counting")
    assert (second.id, second.category) == ("00001", "single_object")


def test_mjhq_ids_and_categories_are_its_keys(written):
    path = written("meta_data.json", {"0a": {"category": "animals", "prompt": "a fox"}, "1b": {"prompt": "a map"}})
    assert read_prompts(path) == [Prompt("0a", "a fox", "animals"), Prompt("1b", "a map")]


def test_dpg_is_a_folder_of_one_text_an_item(written, tmp_path):
    written("b.txt", "a long prompt", "over two lines")
    written("a.txt", "a short one")
    assert read_prompts(tmp_path) == [Prompt("a", "a short one"), Prompt("b", "a long prompt over two lines")]


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.txt", ["a dog", "", "a dog"], r"a\.txt:3: this prompt is already on line 1"),
        (
            "a.jsonl",
            [{"prompt": "a", "seed": -1}],
            r"a\.jsonl:1: expected a whole number from 0 under \"seed\", got -1",
        ),
        ("a.jsonl", [{"prompt": "a", "seed": 2**63}], r"a\.jsonl:1: expected a whole number"),
        ("a.jsonl", [{"prompt": "a", "seed": True}], r"a\.jsonl:1: expected a whole number"),
        ("a.jsonl", [{"prompt": "a", "id": None}], r"a\.jsonl:1: the id is None"),
        ("a.jsonl", [r'{"prompt": "a \ud800 b"}'], r"a\.jsonl:1: this holds half a character"),
        ("a.jsonl", ["[" * 100_000], r"a\.jsonl:1: this is nested too deeply"),
        ("a.jsonl", ['{"prompt": "a", "id": ' + "1" * 5000 + "}"], r"a\.jsonl:1: Exceeds the limit"),
        ("a.jsonl", [{"prompt": "a"}, "{broken"], r"a\.jsonl:2: this is not JSON"),
        ("a.jsonl", [{"text": "a"}], r'a\.jsonl:1: expected a text under "prompt", got None'),
        ("a.jsonl", [{"prompt": "  "}], r"a\.jsonl:1: expected a text"),
        ("a.jsonl", [["a dog"]], r"a\.jsonl:1: expected a JSON object, got list"),
        ("a.jsonl", [{"prompt": "a", "id": 1}, {"prompt": "b", "id": "1"}], r"a\.jsonl:2: the id '1' is already used"),
        ("a.jsonl", [{"prompt": "a"}, {"prompt": "a"}], r"a\.jsonl:2: this prompt and seed are already on line 1"),
        ("a.jsonl", [{"prompt": "a", "id": "../x"}], r"a\.jsonl:1: the id '\.\./x' cannot be a file name"),
        ("a.json", ['{"x": {"prompt": "a"}, "x": {"prompt": "b"}}'], r"a\.json: the key 'x' is there twice"),
        ("a.json", ["{", "broken"], r"a\.json:2: this is not JSON"),
        ("a.json", [{"x": {"category": "art"}}], r"a\.json: x: expected a text"),
        ("a.csv", ["prompt"], "is not a prompts file; known are"),
    ],
)
def test_mistakes_are_named_with_their_line(written, name, lines, message):
    with pytest.raises(ValueError, match=message):
        read_prompts(written(name, *lines))


def test_the_same_prompt_with_another_seed_is_not_a_duplicate(written):
    path = written("a.jsonl", {"prompt": "a", "seed": 0}, {"prompt": "a", "seed": 1})
    assert [prompt.id for prompt in read_prompts(path)] == ["00000", "00001"]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_only_a_line_feed_ends_a_line(tmp_path, mark):
    text = f"a dog{mark}on grass"
    (tmp_path / "a.txt").write_text(f"{text}\na cat\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": f"a{mark}b"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [prompt.text for prompt in read_prompts(tmp_path / "a.txt")] == [text, "a cat"]
    assert [prompt.text for prompt in read_prompts(tmp_path / "a.jsonl")] == [f"a{mark}b"]


def test_blank_lines_are_passed_over_and_change_no_id(written):
    lists = (
        written("a.txt", "", "a dog", "  ", "a cat", ""),
        written("b.jsonl", {"prompt": "a dog"}, "", {"prompt": "a cat"}),
    )
    for path in lists:
        assert [(prompt.id, prompt.text) for prompt in read_prompts(path)] == [("00000", "a dog"), ("00001", "a cat")]
    with pytest.raises(ValueError, match=r"c\.jsonl:3: this is not JSON"):
        read_prompts(written("c.jsonl", "", "", "{broken"))


def test_suffixes_are_read_in_either_case(written, tmp_path):
    assert read_prompts(written("A.TXT", "a dog"))[0].text == "a dog"
    assert read_prompts(written("A.JSONL", {"prompt": "a dog"}))[0].text == "a dog"
    assert read_prompts(written("A.JSON", {"x": {"prompt": "a dog"}}))[0].id == "x"
    assert [prompt.id for prompt in read_prompts(tmp_path)] == ["A"]


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no prompts file at"):
        read_prompts(tmp_path / "missing.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="there are no prompts in"):
        read_prompts(tmp_path / "empty.txt")


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a dog\n\xff\xfe cat")
    with pytest.raises(ValueError, match=r"a\.txt:2: this is not UTF-8"):
        read_prompts(tmp_path / "a.txt")


@pytest.mark.parametrize("id", ["a/b", "0001", "käse_1"])
def test_harmless_ids_are_accepted(written, id):
    assert read_prompts(written("a.jsonl", {"prompt": "a", "id": id}))[0].id == id
