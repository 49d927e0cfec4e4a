"""What can go wrong outside the pure room, by whose fault it is and whether another try can help.

    TidegaugeError
    ├── ConfigurationError   ours: a setting is missing or contradicts another; never retried
    ├── LakeUnreachable      the object store or the catalog does not answer; retried by Airflow
    ├── LakeRefused          the object store knows us not (wrong key, no bucket); never retried
    ├── CommitConflict       another writer was faster; retried at once, on top of what it wrote
    ├── GateClosed           the gate blocked a partition: the rows are in quarantine, the watermark stays
    ├── DecisionRefused      a decision about quarantined rows cannot take effect: nothing was changed
    └── NotFound             a value, row or answer that was asked for does not exist

Bad data raises none of these: it becomes a quarantine row (transforms/sources/contract.py, REASONS).
"""

from __future__ import annotations


class TidegaugeError(Exception):
    """Base of all errors of this project outside the pure room. Its text is one sentence for a person."""


class ConfigurationError(TidegaugeError):
    """A setting is missing or wrong."""


class LakeUnreachable(TidegaugeError):
    """No answer from the object store or the catalog."""


class LakeRefused(TidegaugeError):
    """The object store answered, and refused."""


class CommitConflict(TidegaugeError):
    """A table changed between reading and committing, more often than we are ready to try again."""


class GateClosed(TidegaugeError):
    """A partition failed a critical expectation as a whole."""


class DecisionRefused(TidegaugeError):
    """A release or rejection that cannot be done; nothing was changed."""


class NotFound(TidegaugeError):
    """What was asked for is not in the lake."""
