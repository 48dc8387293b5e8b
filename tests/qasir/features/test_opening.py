import numpy as np
import pytest

from qasir.errors import FeaturesError
from qasir.features.bigfile import BigFile
from qasir.features.opening import open_features
from tests.features import WRITERS, write_bigfile, write_hdf5, write_npy, write_npz


@pytest.fixture
def arrays():
    rng = np.random.default_rng(1)
    return {
        name: rng.standard_normal((n, 6), dtype=np.float32)
        for name, n in {"v_b'c": 3, "a": 5, "caf\xe9": 1, 'd"e': 2}.items()
    }


@pytest.mark.parametrize("form", WRITERS)
def test_each_format_gives_what_was_written(form, arrays, tmp_path):
    path = WRITERS[form](tmp_path / "f", arrays)
    if form != "hdf5":  # whose suffix is missing, too
        assert open_features(path, form).form == form
    found = open_features(path)
    assert found.form == form
    assert set(found.entries) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.read(name), array)
        entry = found.entries[name]
        assert entry.path.exists()
        assert entry.size_bytes >= array.nbytes


@pytest.mark.parametrize("form", WRITERS)
def test_shards_are_read_together_and_may_not_overlap(form, arrays, tmp_path):
    names = list(arrays)
    (tmp_path / "all").mkdir()
    for i, some in enumerate((names[:2], names[2:])):
        WRITERS[form](tmp_path / "all" / f"part{i}.h5", {name: arrays[name] for name in some})
    found = open_features(tmp_path / "all")
    assert set(found.entries) == set(arrays)
    np.testing.assert_array_equal(found.read(names[3]), arrays[names[3]])
    WRITERS[form](tmp_path / "all" / "part2.h5", {names[0]: arrays[names[0]]})
    with pytest.raises(FeaturesError, match="two .*b'c.*part0.h5.*part2.h5"):
        assert open_features(tmp_path / "all").entries


def test_the_array_of_an_npz_is_the_one_named_or_the_only_one(tmp_path):
    two = {"pooler_output": np.ones(4, np.float32), "last_hidden_state": np.zeros((2, 4), np.float32)}
    folder = write_npz(tmp_path / "q", {"qid7": two})
    assert open_features(folder, key="pooler_output").read("qid7").shape == (4,)
    with pytest.raises(FeaturesError, match="qid7.npz: no array 'features' in it: name one of pooler_output, last_hid"):
        open_features(folder).read("qid7")
    only = write_npz(tmp_path / "one", {"v": np.ones((2, 4))}, key="anything")
    assert open_features(only).read("v").shape == (2, 4)
    with pytest.raises(FeaturesError, match="npy has no arrays by name"):
        open_features(write_npy(tmp_path / "n", {"v": np.ones((2, 4))}), key="features")


def test_what_cannot_be_chosen_is_an_error(arrays, tmp_path):
    with pytest.raises(FeaturesError, match="s3://bucket/f.h5: features are read from local files"):
        open_features("s3://bucket/f.h5")
    with pytest.raises(FeaturesError, match="no such file or folder"):
        open_features(tmp_path / "nothing")
    (tmp_path / "both").mkdir()
    with pytest.raises(FeaturesError, match=r"no features in .*both: formats are hdf5, bigfile, npz, npy"):
        open_features(tmp_path / "both")
    write_npz(tmp_path / "both" / "a", {"x": arrays["a"]})
    write_npy(tmp_path / "both" / "b", {"x": arrays["a"]})
    with pytest.raises(FeaturesError, match=r"1 of npy, 1 of npz.*--format"):
        open_features(tmp_path / "both")
    assert open_features(tmp_path / "both", "npy").form == "npy"
    with pytest.raises(FeaturesError, match="format 'csv': choose one of auto, hdf5"):
        open_features(tmp_path / "both", "csv")


@pytest.mark.parametrize("form", WRITERS)
def test_a_half_written_file_is_an_error_that_names_it(form, arrays, tmp_path):
    path = WRITERS[form](tmp_path / "f", arrays)
    victim = {"hdf5": path, "bigfile": path / "feature.bin"}.get(form, path / f"a.{form}")
    whole = victim.read_bytes()
    for size in (0, 40, len(whole) - 7):
        victim.write_bytes(whole[:size])
        with pytest.raises(FeaturesError, match=victim.name):
            open_features(path, form).read("a")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("shape.txt", "11", "not two whole numbers"),
        ("shape.txt", "11 7", "264 bytes, where shape.txt has 11 rows of 7"),
        ("id.txt", "one two", "2 ids for the 11 rows"),
        ("video2frames.txt", "{'a': ['a_0', 'nowhere_1', 'nowhere_2']}", "2 rows are not in id.txt, nowhere_1, nowh"),
        ("video2frames.txt", "{'a': ['a_0'], 'b': ['a_1'", "not a dict of lists of strings.*after 'a'"),
        ("video2frames.txt", "{'a': ['a_0'], 'a': ['a_1']}", "two entries for the video 'a'"),
        ("video2frames.txt", "{'a': __import__('os').getcwd()}", "not a dict of lists of strings.*at its start"),
        ("video2frames.txt", "a", "at its start"),
        ("video2frames.txt", "{} junk", "at its start"),
    ],
)
def test_what_is_wrong_in_a_bigfile_is_said(name, text, message, arrays, tmp_path):
    folder = write_bigfile(tmp_path / "big", arrays)
    (folder / name).write_text(text)
    with pytest.raises(FeaturesError, match=message):
        list(BigFile(folder).entries())
    (folder / name).unlink()
    with pytest.raises(FeaturesError, match=f"{name} is not there"):
        BigFile(folder)


@pytest.mark.parametrize(
    "text", ["{'a': ['a_0','a_1',], }", '{ "a":\n["a_0" , "a_1"]\n}\n', "{'\\x61': ['a_\\x30', 'a_1']}"]
)
def test_a_dict_is_read_however_python_would_write_it(text, arrays, tmp_path):
    folder = write_bigfile(tmp_path / "big", arrays)
    (folder / "video2frames.txt").write_text(text)
    np.testing.assert_array_equal(open_features(folder).read("a"), arrays["a"][:2])


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FeaturesError, match=r"v\.npy: cannot be read"):
        open_features(tmp_path).read("v")


def test_groups_of_hdf5_are_part_of_the_id(tmp_path):
    path = write_hdf5(tmp_path / "f.h5", {"season1/a": np.ones((2, 3)), "b": np.ones((1, 3))})
    assert set(open_features(path).entries) == {"season1/a", "b"}
