import math
from xml.etree import ElementTree

from qasir.training.finetune.curves import curves

SVG = "{http://www.w3.org/2000/svg}"


def epochs(*values):
    return [{"epoch": i, "loss": None if i == 0 else 1.0 / i, "SumR": value} for i, value in enumerate(values)]


def lines(picture):
    """The places of each line's points, by its colour and whether it is dashed."""
    return [path for path in ElementTree.fromstring(picture).iter(f"{SVG}path") if path.get("fill") is None]


def test_curves_show_the_loss_and_sumr_beside_zero_shot():
    picture = curves(epochs(100.0, 120.0, 130.0))
    texts = {text.text for text in ElementTree.fromstring(picture).iter(f"{SVG}text")}
    assert {"loss", "training loss", "validation SumR", "zero-shot", "epoch"} <= texts
    assert picture.count("stroke-dasharray") >= 1
    assert [path.get("d").count("L") for path in lines(picture)] == [1, 2, 1]


def test_what_is_not_finite_is_left_out_and_the_line_is_named_at_its_last_point():
    picture = curves(epochs(100.0, 120.0, 130.0, math.nan))
    assert [path.get("d").count("L") for path in lines(picture)] == [2, 2, 1]
    assert picture.count(">validation SumR<") == 2


def test_before_the_first_epoch_there_is_no_loss_to_draw():
    assert "validation SumR" in curves(epochs(100.0))
