"""What a request can be refused for, beside the library's own errors."""

from qasir.errors import QasirError


class NotFoundError(QasirError):
    """There is no such video, index or place in a video; or its file is gone. 404."""


class TooLargeError(QasirError):
    """More than the server takes. 413."""


class BusyError(QasirError):
    """As much is being worked on as the server allows; try again. 503."""


class UnsearchableError(QasirError):
    """What is served cannot be searched as it is now; whoever runs the server has to mend it. 503."""
