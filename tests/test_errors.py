"""The error tree, its one-line messages and `choose`."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topos_rt import errors
from topos_rt.errors import (
    BackendError,
    Cancelled,
    ImageError,
    InputError,
    MissingExtraError,
    OptionError,
    ToposError,
    choose,
    one_line,
)

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, ToposError)]


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = re.findall(
        r"^( +)(\w+)(?: \((\w+)\))?(?: {2,}|$)", errors.__doc__.split("All of them")[0], re.MULTILINE
    )
    parents = {}
    path = []
    for indent, name, also in drawn:
        depth = (len(indent) - 4) // 2
        path = [*path[:depth], name]
        parents[name] = {path[-2]} | ({also} if also else set()) if depth else set()
    parents.pop("Exception")
    real = {c.__name__: {b.__name__ for b in c.__bases__} for c in CLASSES}
    assert parents == real


@pytest.mark.parametrize("cls", CLASSES)
def test_exit_codes(cls):
    assert cls.exit_code == (2 if issubclass(cls, InputError) else 1)


def test_message_has_the_four_parts_in_order():
    error = ImageError("cannot use the image a.png", got="0 bytes", expected="a picture", fix="save it again")
    assert str(error) == "cannot use the image a.png: got 0 bytes; expected a picture; fix: save it again"
    assert (error.what, error.got, error.expected, error.fix) == (
        "cannot use the image a.png",
        "0 bytes",
        "a picture",
        "save it again",
    )


def test_parts_may_be_left_out():
    assert str(Cancelled("stopped by the callback")) == "stopped by the callback"
    assert str(OptionError("bad steps", got=0)) == "bad steps: got 0"


def test_callers_can_catch_the_builtin_kin():
    assert issubclass(InputError, ValueError)
    assert issubclass(BackendError, RuntimeError)


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_survive_a_process_boundary(cls):
    error = pickle.loads(pickle.dumps(cls("what", got=1, expected="2", fix="three")))
    assert type(error) is cls
    assert str(error) == "what: got 1; expected 2; fix: three"


@settings(deadline=None)
@given(st.text(), st.text())
def test_every_message_is_one_printable_line(what, got):
    text = str(ToposError(what, got=got))
    assert len(text.splitlines()) <= 1
    assert text.isprintable()
    text.encode("utf-8")  # no lone surrogates, so printing it cannot fail


def test_one_line_keeps_ordinary_text_and_joins_lines():
    assert one_line("  a  b — ü\n   c\r\nd ") == "a  b — ü c d"
    assert one_line("\x1b[31mred") == "\\x1b[31mred"


def test_choose_returns_the_entry():
    assert choose("b", {"a": 1, "b": 2}, "letter") == 2


@pytest.mark.parametrize("name", ["eular", "Euler", "EULER"])
def test_choose_lists_the_choices_and_suggests_the_nearest(name):
    with pytest.raises(OptionError) as caught:
        choose(name, {"euler": 1, "heun": 2}, "solver")
    assert str(caught.value) == (
        f"unknown solver: got {name!r}; expected one of: euler, heun; fix: did you mean 'euler'?"
    )


@pytest.mark.parametrize("name", ["zzz", "", None, 3, []])
def test_choose_without_a_near_name_suggests_nothing(name):
    with pytest.raises(OptionError) as caught:
        choose(name, {"euler": 1}, "solver")
    assert caught.value.fix is None
    assert f"got {name!r}" in str(caught.value)


def test_missing_extra_says_what_to_install():
    error = MissingExtraError.needs("writing .usd", "usd")
    assert str(error) == "writing .usd needs an optional dependency; fix: pip install 'topos-rt[usd]'"
