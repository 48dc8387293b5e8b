"""Video ids in the paths of URLs: `/media/{video_id:id}`."""

from starlette.convertors import Convertor, register_url_convertor


class _Id(Convertor[str]):
    """Any text, slashes and line breaks too."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _Id())
