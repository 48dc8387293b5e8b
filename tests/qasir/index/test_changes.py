import pytest

from qasir.errors import CorpusError
from qasir.index.changes import MOST_ATTEMPTS, compare
from qasir.index.index import VideoState
from qasir.video.corpus import MISSING, UNREACHABLE, Corpus, VideoFile
from qasir.video.video_file import is_same_version


def corpus(**fingerprints):
    return Corpus("/v", "/v", tuple(VideoFile(name, f"/v/{name}", 1, f) for name, f in fingerprints.items()))


STATES = {
    "same": VideoState("1", "encoded"),
    "edited": VideoState("1", "encoded"),
    "gone": VideoState("1", "encoded"),
    "broken": VideoState("1", "failed"),
}


def ids(videos):
    return [video.video_id for video in videos]


def test_new_changed_removed_and_unchanged():
    changes = compare(corpus(same="1", edited="2", broken="1", fresh="1"), STATES)
    assert (ids(changes.new), ids(changes.changed), changes.removed) == (["fresh"], ["edited"], ["gone"])
    assert (changes.n_unchanged, changes.n_indexed) == (2, 4)
    retry = compare(corpus(same="1", edited="2", broken="1", fresh="1"), STATES, retry_failed=True)
    assert (ids(retry.retried), retry.n_unchanged) == (["broken"], 1)
    assert set(ids(retry.todo)) == {"fresh", "edited", "broken"}


def test_a_listed_file_that_is_missing_is_removed_if_it_was_encoded_and_new_if_it_was_never_seen():
    changes = compare(corpus(same=MISSING, edited="1", gone="1", broken="1", never=MISSING), STATES)
    assert changes.removed == ["same"]
    assert ids(changes.new) == ["never"]


def failed(kind, *, attempts=1, error="", stale=False):
    if stale:
        return VideoState("0", "encoded", kind, error, "1", attempts)
    return VideoState("1", "failed", kind, error, "1", attempts)


@pytest.mark.parametrize("stale", [True, False])
@pytest.mark.parametrize(
    ("kind", "error", "attempts", "is_retried"),
    [
        ("io", "503", 1, True),
        ("io", "503", MOST_ATTEMPTS - 1, True),
        ("io", "503", MOST_ATTEMPTS, False),
        ("timed_out", "", 1, True),
        ("crashed", "the process that decodes it dies of SIGKILL", 1, True),
        ("crashed", "the process that decodes it dies of SIGSEGV", 1, False),
        ("decode", "SIGKILL", 1, False),
        ("not_finite", "", 1, False),
    ],
)
def test_what_may_pass_is_tried_again_by_itself(kind, error, attempts, is_retried, stale):
    states = {"v": failed(kind, attempts=attempts, error=error, stale=stale)}
    changes = compare(corpus(v="1"), states)
    assert (ids(changes.retried), changes.n_unchanged) == ((["v"], 0) if is_retried else ([], 1))
    assert ids(compare(corpus(v="1"), states, retry_failed=True).retried) == ["v"]
    assert ids(compare(corpus(v="2"), states).changed) == ["v"]
    assert compare(corpus(v=MISSING), states).removed == (["v"] if stale else [])


def test_a_failure_that_an_older_version_recorded_counts_as_tried_once():
    changes = compare(corpus(v="1"), {"v": VideoState("1", "failed", "io", "503")})
    assert ids(changes.retried) == ["v"]


def test_a_stale_video_whose_file_is_back_is_restored_and_unchanged():
    changes = compare(corpus(v="0", same="1"), {"v": failed("decode", stale=True), "same": STATES["same"]})
    assert (changes.restored, changes.todo, changes.n_unchanged) == (["v"], [], 2)


def test_a_file_of_which_nothing_can_be_said_stays_as_it_is_and_is_new_if_it_was_never_seen():
    listed = corpus(same=UNREACHABLE, edited="1", gone=UNREACHABLE, broken=UNREACHABLE, never=UNREACHABLE)
    for retry_failed in (False, True):
        changes = compare(listed, STATES, retry_failed=retry_failed)
        assert (ids(changes.todo), changes.removed, changes.n_unchanged) == (["never"], [], 4)


def test_too_many_removals_are_refused():
    changes = compare(corpus(same="1"), STATES)
    changes.check_removed(0.75, "index")
    with pytest.raises(CorpusError, match="3 of the 4 videos of index are gone, 'broken' first"):
        changes.check_removed(0.74, "index")
    compare(corpus(same="1"), {}).check_removed(0.0, "index")


def test_times_on_object_stores_count_by_the_second():
    """A listing may say 12:00:00.123 where a look at the object says 12:00:00."""
    at = {"uri": "s3://bucket/v.mp4", "listed": "7-1700000000123000000", "looked_at": "7-1700000000000000000"}
    assert is_same_version(at["uri"], at["listed"], at["looked_at"])
    assert not is_same_version("/v.mp4", at["listed"], at["looked_at"])
    assert not is_same_version(at["uri"], at["listed"], "8-1700000000000000000")
    assert not is_same_version(at["uri"], at["listed"], "7-1700000001000000000")
    assert not is_same_version(at["uri"], MISSING, at["listed"])
    video = VideoFile("v", at["uri"], 7, at["looked_at"])
    changes = compare(Corpus("s3://bucket", "s3://bucket", (video,)), {"v": VideoState(at["listed"], "encoded")})
    assert (changes.todo, changes.n_unchanged) == ([], 1)
