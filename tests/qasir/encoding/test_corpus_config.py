import pytest

from qasir.encoding.corpus_config import load_corpus_config
from qasir.errors import ConfigError

GOOD = """\
videos: clips
indexes:
  - uri: large
    model: ViT-B-32
    pretrained: weights.pt
    grid: 4
    fps: 2
  - uri: s3://bucket/small
    cells: false
    thumbnails: false
    image_size: 144
    precision: fp32
    sampling: keyframes
    max_gap_s: 6
"""


def load(tmp_path, text):
    path = tmp_path / "corpus.yaml"
    path.write_text(text)
    return load_corpus_config(path)


def test_a_corpus_and_its_indexes(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"")
    config = load(tmp_path, GOOD)
    assert config.videos == str(tmp_path / "clips")
    large, small = config.indexes
    assert (large.uri, large.pretrained) == (str(tmp_path / "large"), str(tmp_path / "weights.pt"))
    assert (large.grid, large.fps, large.cells) == (4, 2.0, True)
    assert (small.uri, small.model, small.grid, small.cells, small.image_size) == (
        "s3://bucket/small", "qasir-tiny", 3, False, 144,
    )  # fmt: skip
    assert [(one.sampling, one.max_gap_s) for one in (large, small)] == [("uniform", None), ("keyframes", 6.0)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "videos: a\nindexes:\n  - uri: b\n    gird: 3\n",
            r"corpus.yaml:4: indexes\[0\].gird: unknown key; the keys are",
        ),
        ("videos: a\nindexes:\n  - uri: b\n  - uri: c\n    grid: '3'\n", r":5: indexes\[1\].grid: .*integer, not '3'"),
        ("videos: a\nindexes:\n  - grid: 3\n", r":3: indexes\[0\].uri: missing"),
        ("videos: a\nindexes:\n  - uri: b\n  - uri: b\n", r":4: indexes\[1\].uri: the same as indexes\[0\].uri"),
        ("videos: a\nindexes:\n  - b\n", r":3: indexes\[0\]: expected the keys"),
        ("videos: a\nindexes:\n  - uri: b\n    fit: crop\n", r":4: indexes\[0\].fit: .*'squash' or 'letterbox'"),
        (
            "videos: a\nindexes:\n  - uri: b\n    sampling: all\n",
            r":4: indexes\[0\].sampling: .*'uniform' or 'keyframes'",
        ),
        ("videos: a\nindexes:\n  - uri: b\n    max_gap_s: 4s\n", r":4: indexes\[0\].max_gap_s: .*number, not '4s'"),
        ("videos: a\nindexes:\n  - uri: b\n    grid: [2, 3]\n", r":4: indexes\[0\].grid: .*integer, not \[2, 3\]"),
        ("videos: a\nindexes: []\n", r":2: indexes: give a list"),
        ("videos: a\n", r"indexes: give a list"),
        ("indexes:\n  - uri: b\n", r"videos: name a folder"),
        ("videos: a\nindex: b\n", r":2: index: unknown key; the keys are videos, indexes"),
        ("- a\n", r"expected the keys videos, indexes"),
        ("videos: [\n", r"is not YAML: .* line 2"),
        ("", r"expected the keys"),
    ],
)
def test_errors_name_the_line_and_the_key(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, text)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_corpus_config(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not"):
        load_corpus_config(tmp_path / "x.yaml")


def test_a_corpus_may_have_any_number_of_indexes(tmp_path):
    text = "videos: clips\nindexes:\n" + "".join(f"  - uri: i{n}\n" for n in range(100))
    assert len(load(tmp_path, text).indexes) == 100
