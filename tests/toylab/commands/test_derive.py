"""`toylab derive`: the theorem in text, LaTeX and JSON, for every form of RULE."""

import json
import sys

import pytest
import sympy

from toylab.cli import main

KEYS = {
    "rule", "symbols", "threshold", "preconditioner", "matrix", "crossing", "multiplier", "windows",
    "characteristic_polynomial", "gain_dc", "gain_nyquist", "conditions", "assumptions", "source",
}  # fmt: skip

HEAVY_BALL = """
import optax

print("the user's own words")

def my_rule(learning_rate, b1=0.9):
    return optax.sgd(learning_rate, momentum=b1)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "planted_rule_file", raising=False)
    (tmp_path / "planted_rule_file.py").write_text(HEAVY_BALL)
    return tmp_path


def derived(arguments, capsys):
    assert main(["derive", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def same(text, expected, symbols):
    names = {name: sympy.Symbol(name) for name in symbols.values()}
    return sympy.simplify(sympy.sympify(text, locals=names) - sympy.sympify(expected, locals=names)) == 0


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("gd", "2/eta"),
        ("optax:adam", "2*(1+beta1)/((1-beta1)*eta)"),
        ("planted_rule_file.py:my_rule", "2*(1+beta1)/eta"),
        ("planted_rule_file:my_rule", "2*(1+beta1)/eta"),
    ],
)
def test_every_form_of_rule(rule, expected, capsys):
    record = derived([rule], capsys)
    assert set(record) >= KEYS
    assert record["rule"] == rule
    assert same(record["threshold"], expected, record["symbols"])


def test_numbers(capsys):
    at = derived(["adam", "--set", "learning_rate=.01", "b1=.8"], capsys)["at"]
    assert at["settings"]["b1"] == 0.8
    # 2 (1 + .8) / (.2 * .01); rounding of a few operations
    assert at["threshold"] == pytest.approx(1800, rel=1e-12)
    assert at["crossing"] == "flip"


def test_a_flag_chooses_the_rule(capsys):
    record = derived(["optax:sgd", "--set", "momentum=.9", "nesterov=true"], capsys)
    assert same(record["threshold"], "2*(1+beta1)/((1+2*beta1)*eta)", record["symbols"])


def test_text_and_latex(capsys):
    assert main(["derive", "adam", "--set", "learning_rate=.01"]) == 0
    out = capsys.readouterr().out
    assert "crossing: flip" in out
    assert "learning_rate = 0.01" in out
    assert main(["derive", "adam", "--latex"]) == 0
    assert "\\eta" in capsys.readouterr().out


def test_a_refusal_of_theory_is_one_line(capsys):
    assert main(["derive", "optax:sign_sgd"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len([line for line in err.splitlines() if "warning" not in line]) == 1
    assert main(["derive", "optax:sign_sgd", "--json"]) == 2
    assert set(json.loads(capsys.readouterr().out)) == {"error", "hint"}
