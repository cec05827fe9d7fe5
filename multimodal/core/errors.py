"""All errors that the package raises deliberately, as one tree:

MultimodalError
├── InvalidInput            (ValueError)         an empty list, an empty string, a vector of the wrong size
├── MediaError              (ValueError)         a file, bytes or array that cannot be decoded
│   ├── MediaNotFound       (FileNotFoundError)  the path does not exist
│   ├── MediaUnsupported                         a directory, a text file, an unsupported format
│   ├── MediaCorrupt                             empty, truncated, or broken inside
│   └── MediaTooLarge                            beyond the limits on pixels, seconds or bytes
├── UnsupportedModality     (ValueError)         an item whose modality the space has no encoder for
├── SpaceMismatch           (ValueError)         encoders or vectors that do not share one space
├── CorruptSpace            (ValueError)         a saved space whose folder is damaged or incomplete
├── CheckpointError         (ValueError)         weights that are incomplete, damaged or do not fit their configuration
├── DownloadError           (OSError)            weights that could not be fetched, or not while offline
├── StorageError            (OSError)            an object store refused a request, or cannot be reached
├── AnswerError             (RuntimeError)       a language model or its server failed, or said nothing usable
├── EncoderError            (RuntimeError)       an encoder broke its own contract (shape, finiteness)
├── UnknownModel            (LookupError)        a name that `load` cannot resolve
├── UnknownTask             (LookupError)        a task that no pipeline performs
├── MissingExtra            (ImportError)        an optional dependency is not installed
├── ServerError             (RuntimeError)       a server cannot be reached, or refused a request
├── ClusterError            (RuntimeError)       a Ray cluster cannot be reached, or its workers keep ending
└── IndexStateError                              an index not found, existing already, or of another space
    └── IndexBusy                                another process is writing to it

and the warnings, which are no errors:

MultimodalWarning           (UserWarning)
├── AssumedEncodingWarning                       text that is not UTF-8 was read as Latin-1
├── MediaWarning                                 media of which a part could not be read
├── TruncatedPromptWarning                       a server seems to have cut the prompt of a question
└── PathLikeTextWarning                          a str that looks like a path was taken as text
"""

from __future__ import annotations


class MultimodalError(Exception):
    """The base class of all errors that the package raises deliberately."""


class InvalidInput(MultimodalError, ValueError):
    """An invalid argument: empty, or of the wrong type, size or range."""


class MediaError(MultimodalError, ValueError):
    """A source that cannot be decoded as an image, audio or a video."""


class MediaNotFound(MediaError, FileNotFoundError):
    """The path does not exist."""


class MediaUnsupported(MediaError):
    """The file exists, but is not an image, audio or a video in a supported format."""


class MediaCorrupt(MediaError):
    """The format is known, but the content is empty, truncated or broken."""


class MediaTooLarge(MediaError):
    """The header announces more pixels, seconds or bytes than the limits allow; nothing was decoded."""


class MultimodalWarning(UserWarning):
    """The base class of the warnings of this package, for `warnings.filterwarnings`."""


class AssumedEncodingWarning(MultimodalWarning):
    """A text is not valid UTF-8 and was read as Latin-1, so that letters may be wrong."""


class MediaWarning(MultimodalWarning):
    """A file was decoded, but a part of it could not be read."""


class PathLikeTextWarning(MultimodalWarning):
    """A str that looks like the path of a file was taken as text, because a str is always text."""


class TruncatedPromptWarning(MultimodalWarning):
    """A server reports far fewer tokens than were sent: it has cut the prompt without an error."""


class UnsupportedModality(MultimodalError, ValueError):
    """The space has no encoder for the modality of an item.

    Attributes:
        modality: The modality that was missing, or None where the error is about something else.
    """

    modality: str | None = None


class SpaceMismatch(MultimodalError, ValueError):
    """Encoders or vectors that do not belong to one space."""


class CorruptSpace(MultimodalError, ValueError):
    """A folder that should hold a saved space is damaged or incomplete."""


class CheckpointError(MultimodalError, ValueError):
    """A checkpoint that cannot be used: files are missing, tensors do not fit, or its preprocessing is unknown."""


class DownloadError(MultimodalError, OSError):
    """Files could not be fetched: no network, offline by choice, refused, broken off, or not what was announced."""


class StorageError(MultimodalError, OSError):
    """An object store refused a request or cannot be reached: no such bucket, no access, wrong region, no network."""


class AnswerError(MultimodalError, RuntimeError):
    """A language model or its server failed, or returned nothing that is an answer.

    Attributes:
        status: The HTTP status; None where there was no response.
        request_id: The server's id of the request, for its support; None if it gave none.
    """

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status, self.request_id = status, request_id


class EncoderError(MultimodalError, RuntimeError):
    """An encoder returned what its contract forbids: a wrong shape, or numbers that are not finite."""


class UnknownModel(MultimodalError, LookupError):
    """No model has that name; the message offers close matches."""


class UnknownTask(MultimodalError, LookupError):
    """No pipeline performs that task; the message offers close matches."""


class MissingExtra(MultimodalError, ImportError):
    """An optional dependency is needed and not installed.

    >>> str(MissingExtra("reading HEIC pictures", package="pillow-heif", extra="heic"))
    "reading HEIC pictures needs pillow-heif: pip install 'multimodal[heic]'"
    """

    def __init__(self, what: str, *, package: str, extra: str) -> None:
        self.what, self.package, self.extra = what, package, extra
        super().__init__(f"{what} needs {package}: pip install 'multimodal[{extra}]'")

    def __reduce__(self) -> tuple[object, ...]:
        return _missing_extra, (self.what, self.package, self.extra)


def _missing_extra(what: str, package: str, extra: str) -> MissingExtra:
    return MissingExtra(what, package=package, extra=extra)


class ServerError(MultimodalError, RuntimeError):
    """A running `multimodal serve` cannot be reached, or answered with an error.

    Attributes:
        status: The HTTP status; None if there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ClusterError(MultimodalError, RuntimeError):
    """A Ray cluster cannot be reached or started, has too little for the workers, or loses them again and again."""


class IndexStateError(MultimodalError):
    """An index that does not exist, exists already, or belongs to another space."""


class IndexBusy(IndexStateError):
    """Another process holds the write lock of the index, and waiting for it timed out."""
