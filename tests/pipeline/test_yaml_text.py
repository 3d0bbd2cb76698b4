import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.pipeline.yaml_text import DEPTH, LENGTH, YAMLError, dump, load

TEXT = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(PLAIN)
def test_what_is_written_reads_back_as_itself(value):
    assert load(dump(value)) == value


@pytest.mark.parametrize("text", ["1e5", "1e-3", "010", "5", "0x10", "2026-01-01", "12:30", "yes", "null", ".5"])
def test_text_that_looks_like_something_else_stays_text(text):
    assert load(dump({"source": text})) == {"source": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-3", 0.001), ("1e4", 10000.0), ("-.5", -0.5), ("1.", 1.0), ("0", 0), ("-7", -7), ("1_000", 1000)),
        *(("2026-01-01", "2026-01-01"), ("12:30", "12:30"), ("010", "010"), ("1.2.3", "1.2.3"), ("", None)),
        ("base: &b {x: 1}\nmore: {<<: *b, y: 2}", {"base": {"x": 1}, "more": {"x": 1, "y": 2}}),
    ],
)
def test_numbers_are_numbers_and_the_rest_is_text(text, value):
    assert load(text) == value
    assert type(load(text)) is type(value)


BILLION = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "the key a is given twice"),
        ("meta: {lr: 1, lr: 2}", "the key lr is given twice"),
        ("a: &a [*a]", "refers to itself"),
        ("a: &a {b: *a}", "refers to itself"),
        (BILLION, "aliases written out"),
        ("[" * (DEPTH + 2) + "]" * (DEPTH + 2), "nested too deeply"),
        ("[" * 500, "nested too deeply"),
        ("x" * (LENGTH + 1), "characters"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "single document"),
        *((f"!!{tag} x", "its tag says") for tag in ("bool", "timestamp")),
        ("!!int x", "invalid literal"),
        ("!!map x", "expected a mapping"),
        ("? [a]\n: b", "unhashable key"),
        ("{" * (LENGTH - 1), "nested too deeply"),
    ],
)
def test_what_is_no_configuration_is_refused(text, message):
    with pytest.raises(YAMLError, match=message):
        load(text)


def test_others_read_what_is_written():
    assert yaml.safe_load(dump({"meta": {"lr": 1e-05, "name": "é"}})) == {"meta": {"lr": 1e-05, "name": "é"}}
