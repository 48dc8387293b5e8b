"""Refuses URIs that carry credentials: what names a video or an index is written into tables, reports and logs."""

import re
from urllib.parse import unquote

from qasir.errors import UriError

_OPTIONS = frozenset(
    {
        "allow_bucket_creation", "allow_bucket_deletion", "background_writes", "blob_storage_authority",
        "blob_storage_scheme", "buffer_size", "check_directory_existence_before_creation", "client_id",
        "credential_kind", "dfs_storage_authority", "enable_tls", "endpoint_override", "project_id", "region",
        "replication", "retry_limit_seconds", "scheme", "smart_defaults", "tenant_id", "tls_ca_dir_path",
        "tls_ca_file_path", "tls_verify_certificates", "user",
    }
)  # fmt: skip
"""The options of pyarrow's object stores that are no secret."""
_SECRET = re.compile(r"key|secret|token|signature|credential|passw|accessid|^sig$|^auth", re.IGNORECASE)
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>.*)", re.DOTALL)
_URI_WITHIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
_BEFORE = re.compile(r"[\s\"'\ufeff]*")
"""What may stand before a URI by mistake, which makes a local path of it: the secret is in it all the same."""
_OPTION = re.compile(r"(?<=[?&#;])(?P<name>(?:(?!%3[dD])[^=&?#;])*)(?:=|%3[dD])(?P<value>[^&#;]*)")
_FIRST_OPTION = re.compile("[?#;]")
_AT = re.compile("[^/?#;]*%40", re.IGNORECASE)
_USER_INFO = re.compile(r"[^/?]*@|(?!\[)[^/@:?]*:(?!\d{0,5}(?:[/?]|$))(?:.*@|[^/]*)", re.DOTALL)
"""What stands before the host; a secret may hold a slash that nobody escaped, and then its `@` comes late."""
_NAMES_A_CONTAINER = frozenset({"abfs", "abfss", "hdfs", "viewfs"})
"""Schemes in which a name before the host is a container, an account or a user, and no secret."""
_HIDDEN = "***"


def without_credentials(uri: str) -> str:
    """The URI itself. Raises UriError, as `check_no_credentials` does: for fields of configuration files."""
    check_no_credentials(uri)
    return uri


def check_no_credentials(uri: str) -> None:
    """Raises UriError, which does not repeat them, for a URI with user info, or with a secret or signature in its
    query."""
    found = _found(uri)
    if found is not None and (_user_info(found) or any(map(_is_secret, _options(found)))):
        raise UriError(
            f"{redacted(uri)} carries credentials, which would be written into tables and logs: leave them out and "
            "give them by the environment (AWS_ACCESS_KEY_ID, say), an instance profile or a secret of the cluster; "
            "docs/operations.md shows how"
        )


def redacted(uri: str) -> str:
    """A URI without what may be a secret in it, unknown options among it; a local path as it is."""
    found = _found(uri)
    if found is None:
        return uri
    start = found.start("rest")
    hidden = [(option.start("value"), option.end("value")) for option in _options(found) if not _is_harmless(option)]
    if user := _user_info(found):
        hidden.insert(0, (start, start + len(user)))
    for start, end in reversed(hidden):
        uri = f"{uri[:start]}{_HIDDEN}{uri[end:]}"
    return uri


def _found(text: str) -> re.Match[str] | None:
    """The URI in a text, which begins there or, with two slashes, further on."""
    before = _BEFORE.match(text)
    return _URI.match(text, before.end() if before else 0) or _URI_WITHIN.search(text)


def _user_info(uri: re.Match[str]) -> str:
    """What stands before the host, without its `@`."""
    scheme = uri["scheme"].lower()
    found = _USER_INFO.match(uri["rest"])
    user = found[0].removesuffix("@") if found else ""
    if not user and scheme not in _NAMES_A_CONTAINER and (escaped := _AT.match(uri["rest"])):
        user = escaped[0][:-3]
    harmless = (scheme in _NAMES_A_CONTAINER and ":" not in user) or (scheme in ("gs", "gcs") and user == "anonymous")
    return "" if harmless else user


def _options(uri: re.Match[str]) -> list[re.Match[str]]:
    first = _FIRST_OPTION.search(uri.string, uri.start("rest"))
    if first is None or uri["scheme"].lower() == "file":
        return []
    return list(_OPTION.finditer(uri.string, first.end()))


def _is_harmless(option: re.Match[str]) -> bool:
    return option["name"].lower() in _OPTIONS and "@" not in unquote(option["value"])


def _is_secret(option: re.Match[str]) -> bool:
    secret = _SECRET.search(unquote(option["name"])) is not None or "@" in unquote(option["value"])
    return secret and not _is_harmless(option)
