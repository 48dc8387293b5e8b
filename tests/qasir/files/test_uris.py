import os
import random

import pytest

from qasir.errors import UriError
from qasir.files.credentials import check_no_credentials, redacted
from qasir.files.stores import Stores
from qasir.files.uris import RemoteUri, absolute_uri, is_remote, local_path, same_place, shown, stored_path

LATIN = os.fsdecode(b"/videos/caf\xe9 100%/\xff.mp4")


@pytest.mark.parametrize("path", ["/videos/a b.mp4", "/videos/100%25.mp4", "/videos/é\u2028.mp4", "/a:b/c://d.mp4"])
def test_a_local_path_is_written_down_as_it_is(path):
    assert stored_path(path) == local_path(path) == path
    assert not is_remote(path)


def test_a_path_that_is_not_utf8_is_written_down_as_a_uri_that_is():
    assert stored_path(LATIN) == "file:///videos/caf%E9%20100%25/%FF.mp4"
    assert local_path(stored_path(LATIN)) == LATIN
    assert not is_remote(stored_path(LATIN))
    assert shown(LATIN) == r"/videos/caf\xe9 100%/\xff.mp4"
    assert same_place("file:///videos/a", "/videos/a")
    assert not same_place("/videos/a%20b", "/videos/a b")


def test_what_is_no_text_is_shown_as_what_it_is():
    assert shown("a\0b\ud800c\udcff") == r"a\x00b\ud800c\xff"


def test_a_file_on_another_host_is_refused():
    assert local_path("file://localhost/a.mp4") == "/a.mp4"
    with pytest.raises(UriError, match="names a host"):
        local_path("file://videos/a.mp4")


def test_a_key_and_its_uri_are_one_to_one():
    rng = random.Random(0)
    store = RemoteUri("s3", "bucket", "", "region=eu-west-1")
    for _ in range(2000):
        key = "".join(rng.choice("a%2F?=&#/ é\n[") for _ in range(rng.randint(1, 12)))
        assert RemoteUri.parse(store.with_key(key)) == RemoteUri("s3", "bucket", key, "region=eu-west-1"), key
    assert store.with_key("a b/é #1.mp4") == "s3://bucket/a b/é #1.mp4?region=eu-west-1"
    assert RemoteUri.parse("s3://bucket/clip?.mp4") == RemoteUri("s3", "bucket", "clip?.mp4")
    with pytest.raises(UriError, match=r"s3://bucket/%FF is not UTF-8"):
        RemoteUri.parse("s3://bucket/%FF")


SECRET = "wJalr/XUtn+FEMI"


@pytest.mark.parametrize(
    ("uri", "hidden"),
    [
        (f"s3://AKIA1:{SECRET}@bucket/videos", "s3://***@bucket/videos"),
        (f"s3://AKIA1:{SECRET.replace('/', '%2F')}@bucket/videos", "s3://***@bucket/videos"),
        ("s3://AKIA1@bucket/videos", "s3://***@bucket/videos"),
        (f"S3://bucket/a.mp4?region=x&secret_key={SECRET}", "S3://bucket/a.mp4?region=x&secret_key=***"),
        (f"s3://bucket/a.mp4?access_key={SECRET}", "s3://bucket/a.mp4?access_key=***"),
        (f"https://h/a.mp4?X-Amz-Signature={SECRET}&v=1", "https://h/a.mp4?X-Amz-Signature=***&v=***"),
        (f"https://h/a.mp4?sv=2&sig={SECRET}", "https://h/a.mp4?sv=***&sig=***"),
        (f"s3://bucket/a?endpoint_override=http://k:{SECRET}@h", "s3://bucket/a?endpoint_override=***"),
        (f"s3://bucket/a?endpoint_override=http%3A//k:{SECRET}%40h", "s3://bucket/a?endpoint_override=***"),
        (f"s3://bucket/a?s%65cret_k%65y={SECRET}", "s3://bucket/a?s%65cret_k%65y=***"),
        (f"abfs://container:{SECRET}@account.dfs.core.windows.net/a", "abfs://***@account.dfs.core.windows.net/a"),
        (f"http://me:{SECRET}@host/a.mp4", "http://***@host/a.mp4"),
        (f"s3://bucket/a#secret_key={SECRET}", "s3://bucket/a#secret_key=***"),
        (f"s3://bucket/a?x=1;secret_key={SECRET}", "s3://bucket/a?x=***;secret_key=***"),
        (f"s3://bucket/a?secret_key%3D{SECRET}", "s3://bucket/a?secret_key%3D***"),
        ("s3://AKIA1%3AwJalrXUtn%40bucket/a", "s3://***%40bucket/a"),
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri, hidden):
    assert redacted(uri) == hidden
    with pytest.raises(UriError, match="carries credentials") as refused:
        check_no_credentials(uri)
    assert SECRET[:5] not in str(refused.value)
    for use in (absolute_uri, Stores().at):
        with pytest.raises(UriError, match="carries credentials"):
            use(uri)


@pytest.mark.parametrize("before", [" ", "\t", "\ufeff", '"', "/videos/"])
def test_credentials_are_found_behind_what_makes_a_local_path_of_a_uri(before):
    uri = f"{before}s3://AKIA1:{SECRET}@bucket/videos"
    with pytest.raises(UriError, match="carries credentials") as refused:
        check_no_credentials(uri)
    assert SECRET[:5] not in str(refused.value)
    with pytest.raises(UriError, match="carries credentials"):
        absolute_uri(uri)


def test_a_uri_with_one_slash_carries_credentials_too():
    assert redacted(f"s3:/AKIA1:{SECRET}@bucket/a") == "s3:/***@bucket/a"
    with pytest.raises(UriError, match="carries credentials"):
        check_no_credentials(f"s3:/AKIA1:{SECRET}@bucket/a")


@pytest.mark.parametrize(
    "uri",
    [
        "/videos/a:b@c.mp4",
        "s3://bucket/me@home.mp4",
        "s3://bucket/a.mp4?region=eu-west-1&endpoint_override=http://127.0.0.1:9000&scheme=http",
        "gs://anonymous@bucket/videos",
        "abfs://container@account.dfs.core.windows.net/videos",
        "hdfs://namenode:8020/videos",
        "hf://datasets/me/films@main/a.mp4",
        "/videos/a.mp4?secret_key=1",
        "file:///videos/a.mp4?secret_key=1",
    ],
)
def test_what_carries_none_is_left_alone(uri):
    check_no_credentials(uri)
    assert redacted(uri) == uri


def test_an_option_that_no_store_knows_is_hidden_but_no_secret():
    check_no_credentials("s3://bucket/a.mp4?versionId=3")
    assert redacted("s3://bucket/a.mp4?versionId=3") == "s3://bucket/a.mp4?versionId=***"


def test_an_index_is_named_without_options_in_utf8(tmp_path):
    assert absolute_uri("s3://bucket/index") == "s3://bucket/index"
    assert absolute_uri(f"file://{tmp_path}/a%20b") == f"{tmp_path}/a b"
    with pytest.raises(UriError, match="takes no options"):
        absolute_uri("s3://bucket/index?region=eu-west-1")
    with pytest.raises(UriError, match=r"\\xff is not UTF-8"):
        absolute_uri(os.fsdecode(b"/tmp/\xff"))


def test_videos_are_read_over_known_protocols_only():
    for uri in ("http://host/a.mp4", "ftp://host/a.mp4", "rtmp://host/a", "mock://a/b", "concat://a"):
        with pytest.raises(UriError, match=r"not read over \w+://, but from local paths, file://, .*s3://"):
            Stores().at(uri)
    for uri in ("s3://[x/a.mp4", "s3:///a.mp4", "s3://bucket/a.mp4?versionId=3"):
        with pytest.raises(UriError):
            Stores().at(uri)


def test_a_store_is_opened_once():
    stores = Stores()
    (one, path), (other, same) = (stores.at(f"s3://bucket/{key}?region=eu-west-1") for key in ("a b/é", "a%20b/é"))
    assert one is other
    assert path == same == "bucket/a b/é"
    assert one.uri(path) == "s3://bucket/a b/é?region=eu-west-1"
