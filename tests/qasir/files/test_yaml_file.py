"""A dataclass is all that it takes to read a YAML file: its fields are the keys, their types what is checked."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from qasir.errors import ConfigError
from qasir.files.yaml_file import Wanted, YamlFile
from qasir.options import Doc


@dataclass(frozen=True)
class Tea:
    kind: Annotated[str, Doc("what is brewed")]
    minutes: Annotated[float, Doc("how long")] = 3.0


@dataclass(frozen=True)
class Order:
    teas: tuple[Tea, ...]
    cups: Annotated[tuple[int, ...], Wanted("give a list of cups")] = (1,)


def read(tmp_path, text):
    (tmp_path / "order.yaml").write_text(text)
    return YamlFile(tmp_path / "order.yaml").checked(Order, crossed=True)


def test_lists_inside_an_entry_are_crossed_and_lists_of_the_file_are_not(tmp_path):
    order = read(tmp_path, "teas:\n  - {kind: [green, black], minutes: [1, 2]}\n  - kind: mint\ncups: [2, 3]\n")
    assert [(tea.kind, tea.minutes) for tea in order.teas] == [
        ("green", 1.0), ("green", 2.0), ("black", 1.0), ("black", 2.0), ("mint", 3.0),
    ]  # fmt: skip
    assert order.cups == (2, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("teas:\n  - {kind: [a, b]}\n  - kind: c\n    minutes: long\n", r":4: teas\[1\].minutes: .*number, not 'long'"),
        ("teas:\n  - kind: a\n    sugar: 1\n", r":3: teas\[0\].sugar: unknown key; the keys are kind, minutes"),
        ("teas:\n  - kind: true\n", r":2: teas\[0\].kind: .*string, not True"),
        ("teas: []\ncups: [1, two]\n", r":2: cups: give a list of cups, not \[1, 'two'\]"),
        ("teas:\n  - 3\n", r":2: teas\[0\]: expected the keys kind, minutes, not 3"),
        ("cups: [1]\n", "teas: missing"),
        ("{}\n", "teas: missing"),
        ("teas: []\n1: x\n", ":2: 1: unknown key"),
    ],
)
def test_errors_name_the_line_the_key_and_what_is_there(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        read(tmp_path, text)
