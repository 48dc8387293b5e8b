from datetime import UTC, datetime

import pytest

from qasir.video.container import Video
from qasir.video.recorded import recorded_at
from tests.videos import write_video

NOW = datetime(2026, 3, 1, tzinfo=UTC)
QUICKTIME = "com.apple.quicktime.creationdate"


def said(text, name="creation_time"):
    return recorded_at([{name: text}], now=NOW)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-05-06T07:08:09.123456Z", datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)),
        ("2024-05-06T07:08:09.123456789Z", datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)),
        ("2024-05-06T07:08:09,5Z", datetime(2024, 5, 6, 7, 8, 9, 500000, UTC)),
        ("2024-05-06T07:08:09+0200", datetime(2024, 5, 6, 5, 8, 9, 0, UTC)),
        ("2024-05-06T07:08:09-03:30", datetime(2024, 5, 6, 10, 38, 9, 0, UTC)),
        ("2024-05-06T07:08:09+02", datetime(2024, 5, 6, 5, 8, 9, 0, UTC)),
        ("2024-05-06 07:08:09", datetime(2024, 5, 6, 7, 8, 9, 0, UTC)),
        (" 2024-05-06  07:08 UTC ", datetime(2024, 5, 6, 7, 8, 0, 0, UTC)),
        ("2024:05:06 07:08:09", datetime(2024, 5, 6, 7, 8, 9, 0, UTC)),
        ("2024/05/06 07:08:09", datetime(2024, 5, 6, 7, 8, 9, 0, UTC)),
        ("2024-02-29T00:00:00z", datetime(2024, 2, 29, tzinfo=UTC)),
        ("2026-03-01T23:00:00Z", datetime(2026, 3, 1, 23, tzinfo=UTC)),
    ],
)
def test_times_are_read_with_their_offset_and_without_one_as_utc(text, time):
    assert said(text) == time


@pytest.mark.parametrize(
    "text",
    [
        "1904-01-01T00:00:00.000000Z", "1970-01-01T00:00:00Z", "1970-01-01T02:00:00+0200", "1970-01-01T00:04:11Z",
        "1969-12-31T23:59:59Z", "0001-01-01T00:00:00+23:00", "0000-00-00T00:00:00Z", "2026-03-02T00:00:01Z",
        "2040-02-06T06:28:15Z", "9999-12-31T23:59:59-23:59", "2024", "2024-05", "2024-05-06", "06/05/2024 07:08:09",
        "2023-02-29T00:00:00Z", "2024-05-06T24:00:00Z", "2024-05-06T07:08:09+99:00", "2024-05-06T07:08:61Z",
        "2024-05/06 07:08:09", "yesterday", "", " ", "\0", "2024-05-06T07:08:09Z\0", "\ud800\ufffd\U0001f600",
        "٢٠٢٤-٠٥-٠٦T٠٧:٠٨:٠٩Z", "2024-05-06T07:08:09Z" + " " * 100, "9" * 1_000_000, "2024-05-06" + " " * 1_000_000,
        "2024-05-06T07:08:09Z; DROP TABLE videos", "NaN", "-1", "2024-05-06T07:08:09.Z",
    ],
)  # fmt: skip
def test_what_is_no_time_or_cannot_be_one_is_passed_over(text):
    assert said(text) is None
    assert recorded_at([{QUICKTIME: text}, {"creation_time": "2020-01-02T03:04:05Z"}], now=NOW) == datetime(
        2020, 1, 2, 3, 4, 5, tzinfo=UTC
    )


def test_the_best_of_several_counts():
    container = {
        "date": "2021-01-01T00:00:00Z", "creation_time": "2022-01-01T00:00:00Z",
        "DATE_RECORDED": "2023-01-01T00:00:00Z", QUICKTIME: "2024-01-01T00:00:00+0100",
    }  # fmt: skip
    stream = {"creation_time": "2025-01-01T00:00:00Z"}
    years = []
    for name in [QUICKTIME, "DATE_RECORDED", "creation_time"]:
        years.append(recorded_at([container, stream], now=NOW).year)
        del container[name]
    years.append(recorded_at([container, stream], now=NOW).year)
    years.append(recorded_at([container, {}], now=NOW).year)
    assert years == [2023, 2023, 2022, 2025, 2021], "the first is New Year's Eve in UTC"
    assert recorded_at([{}, {}]) is None


@pytest.mark.parametrize(
    ("name", "codec", "tags", "options"),
    [
        ("a.mp4", "libx264", {"creation_time": "2024-05-06T07:08:09Z"}, {}),
        ("b.mp4", "libx264", {"date": "2024-05-06T07:08:09Z"}, {}),
        ("a.mov", "libx264", {QUICKTIME: "2024-05-06T09:08:09+0200"}, {"movflags": "use_metadata_tags"}),
        ("a.mkv", "libx264", {"creation_time": "2024-05-06T07:08:09Z"}, {}),
        ("b.mkv", "libx264", {"DATE_RECORDED": "2024-05-06 07:08:09"}, {}),
        ("a.webm", "libvpx-vp9", {"creation_time": "2024-05-06T07:08:09Z"}, {}),
        ("a.avi", "mpeg4", {"date": "2024-05-06 07:08:09"}, {}),
    ],
)
def test_what_containers_say(tmp_path, name, codec, tags, options):
    path = write_video(tmp_path / name, 3, codec=codec, tags=tags, container_options=options)
    with Video(str(path)) as video:
        assert video.recorded_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "tags", [{}, {"creation_time": "1904-01-01T00:00:00Z"}, {"creation_time": "1970-01-01T00:00:00Z"}, {"date": "2024"}]
)
def test_containers_that_do_not_say(tmp_path, tags):
    with Video(str(write_video(tmp_path / "a.mp4", 3, tags=tags))) as video:
        assert video.recorded_at is None


def test_tags_that_are_not_utf_8(tmp_path):
    path = write_video(tmp_path / "a.mkv", 3, tags={"DATE_RECORDED": "2024-05-06 07:08:09"})
    path.write_bytes(path.read_bytes().replace(b"2024-05-06", b"2024\xff05\xfe06"))
    with Video(str(path)) as video:
        assert video.recorded_at is None
