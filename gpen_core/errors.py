"""The errors a user can meet. Every message says what is wrong, with which file or setting, and what to do.

The command line turns each class into an exit code; hosts show the message as it is.
"""

from __future__ import annotations


class GpenError(Exception):
    """Base of all errors raised on purpose by gpen_core. Its message is written for users."""


class SettingsError(GpenError, ValueError):
    """A setting or an argument cannot be met (command line: exit code 2)."""


class PictureError(GpenError):
    """A picture or video cannot be read or written (command line: that input fails, exit code 1)."""


class WeightsError(GpenError):
    """A weight file is of the wrong kind, damaged, or not what it should be (command line: exit code 3)."""


class WeightsMissingError(WeightsError):
    """Weights are not on disk and cannot be fetched (command line: exit code 3)."""


class FeatureMissingError(GpenError):
    """A feature needs an optional package that cannot be imported here (command line: exit code 2)."""
