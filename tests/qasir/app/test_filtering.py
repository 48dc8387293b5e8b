from datetime import UTC, date, datetime

import lance
import pyarrow as pa
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from qasir.app.filtering import Filters, asked_filters
from qasir.errors import QueryError

STAMP = pa.timestamp("us", "UTC")
ROWS = {  # id: (codec, seconds, recorded, changed)
    "a/b": ("h264", 1.0, datetime(2026, 1, 1, tzinfo=UTC), None),
    "a/b'c/d": ("hevc", 2.0, None, datetime(2026, 1, 31, tzinfo=UTC)),
    "a%/x": ("x", 3.0, None, datetime(2026, 2, 1, tzinfo=UTC)),
    "A/x": ("h264", 4.0, datetime(2026, 1, 31, 23, 59, 59, 999999, UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    "a": ("vp9", 5.0, None, None),
    "é\x00/z": (None, 6.0, None, None),
    "a/b/e": ("o'k", None, None, None),
}
HOSTILE = ["') OR true OR (codec = '", "x'; DROP TABLE videos; --", "%", "_", "\\", "a\\' OR true --", "\x00", "📼"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    codec, seconds, recorded, changed = map(list, zip(*ROWS.values(), strict=True))
    columns = {"video_id": list(ROWS), "codec": codec, "duration_s": seconds}
    dates = {"recorded_at": pa.array(recorded, STAMP), "modified_at": pa.array(changed, STAMP)}
    return lance.write_dataset(pa.table(columns | dates), tmp_path_factory.mktemp("table") / "videos.lance")


@pytest.fixture(scope="module")
def picked(table):
    def pick(**asked):
        condition = Filters(**asked).condition(table.schema.names)
        return set(table.to_table(columns=["video_id"], filter=condition)["video_id"].to_pylist())

    return pick


def test_a_folder_holds_what_lies_beneath_it(picked):
    assert picked(folder="a") == picked(folder="/a/") == {"a/b", "a/b'c/d", "a/b/e"}
    assert picked(folder="a/b") == {"a/b/e"}
    assert picked(folder="a/b'c") == {"a/b'c/d"}
    assert picked(folder="a%") == {"a%/x"}
    assert picked(folder="é\x00") == {"é\x00/z"}
    assert picked(folder="") == picked(folder="/") == set(ROWS)


def test_codecs_and_lengths_include_their_ends(picked):
    assert picked(codecs=("h264", "o'k")) == {"a/b", "A/x", "a/b/e"}
    assert picked(min_duration_s=2.0, max_duration_s=4.0) == {"a/b'c/d", "a%/x", "A/x"}
    assert picked(min_duration_s=1e300) == set()
    assert picked(max_duration_s=1e-5) == set()


def test_days_are_whole_and_of_the_recording_before_the_file(picked):
    assert picked(since=date(2026, 1, 1), until=date(2026, 1, 31)) == {"a/b", "a/b'c/d", "A/x"}
    assert picked(since=date(2026, 2, 1)) == {"a%/x"}
    dated = {"a/b", "a/b'c/d", "a%/x", "A/x"}
    assert picked(until=date(9999, 12, 31)) == picked(since=date(1, 1, 1)) == dated, "the undated have no day"


def test_everything_asked_must_be_true(picked):
    both = picked(folder="a", where="duration_s < 2 OR codec = 'vp9'", max_duration_s=10.0)
    assert both == {"a/b"}
    assert Filters().condition([]) is None


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_names(picked, text):
    assert picked(folder=text) == set()
    assert picked(codecs=(text,)) == set()
    assert picked(codecs=(text, "vp9")) == {"a"}


@pytest.mark.parametrize(
    "where",
    ["", " ", "true) OR (true", "true -- x", "true /* ( */ ) OR ( true /* ) */", "(true", "codec = ')' OR (true"],
)
def test_sql_that_would_reach_beyond_its_parentheses_is_refused(where):
    with pytest.raises(QueryError, match="is not a SQL condition"):
        Filters(where=where, folder="a").condition(["video_id"])


def test_sql_with_signs_in_strings_is_taken(picked):
    assert picked(where="codec != '--' AND video_id != ')' AND codec = \"vp9\" AND video_id != '/*'") == {"a"}
    assert picked(where="(duration_s-duration_s-1) / duration_s*2 > -0.5") == {"a", "é\x00/z"}


def test_what_cannot_be_answered_says_so():
    with pytest.raises(QueryError, match=r"takes no SQL"):
        Filters(where="true").condition([], allow_sql=False)
    with pytest.raises(QueryError, match=r"does not say when .* leave out from and to"):
        Filters(since=date(2026, 1, 1)).condition(["video_id", "duration_s"])
    with pytest.raises(QueryError, match=r"at least 60 s and at most 6 s"):
        Filters(min_duration_s=60.0, max_duration_s=6.0).condition([])
    with pytest.raises(QueryError, match=r"from 2026-02-01 on and up to 2026-01-01"):
        Filters(since=date(2026, 2, 1), until=date(2026, 1, 1)).condition(["modified_at"])
    with pytest.raises(QueryError, match=r"where: 1001 characters"):
        Filters(where="x" * 1001).condition([])
    with pytest.raises(QueryError, match=r"folder: 2000 characters"):
        Filters(folder="x" * 2000).condition([])
    with pytest.raises(QueryError, match=r"101 codecs"):
        Filters(codecs=("x",) * 101).condition([])


def test_an_index_with_one_of_the_dates_goes_by_it():
    assert "recorded_at" not in Filters(since=date(2026, 1, 1)).condition(["modified_at"])


def test_a_request_gives_them_all():
    app = FastAPI()

    @app.get("/")
    def answer(filters: Filters = Depends(asked_filters)) -> str:  # noqa: B008
        return repr(filters)

    client = TestClient(app)
    asked = "/?where=true&folder=a&codec=x&codec=y&min_duration_s=1&max_duration_s=2&from=2026-01-31&to=2026-02-01"
    expected = Filters("true", "a", ("x", "y"), 1.0, 2.0, date(2026, 1, 31), date(2026, 2, 1))
    assert client.get(asked).json() == repr(expected)
    for wrong in ("from=2026-02-30", "to=tomorrow", "min_duration_s=-1", "max_duration_s=nan", "min_duration_s=inf"):
        assert client.get(f"/?{wrong}").status_code == 422, wrong
