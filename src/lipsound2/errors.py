"""What a user sees when something is wrong: one line and, where there is one, a hint."""


class LipSoundError(Exception):
    """Say what went wrong and what to do about it.

    Args:
        message: One line: what, expected, got.
        hint: One line: what the user can do about it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["LipSoundError"], tuple[str, str | None]]:
        """Keep the hint when the error crosses a process boundary."""
        return type(self), (self.message, self.hint)


class MediaError(LipSoundError):
    """A video or sound file that cannot be read or written."""


class FaceError(LipSoundError):
    """A video in which no usable face was found."""


class DataError(LipSoundError):
    """A corpus, a shard or an index that is not what it should be."""


class CheckpointError(LipSoundError):
    """A run, a checkpoint or a pack that cannot be loaded."""


class ConfigError(LipSoundError):
    """Settings that contradict each other."""


class TrainingError(LipSoundError):
    """A training run that cannot go on."""


class MissingExtraError(LipSoundError):
    """An optional package that a feature needs is not installed."""


class StorageError(LipSoundError):
    """The file system refused to write."""


class DownloadError(LipSoundError):
    """A file that cannot be fetched."""
