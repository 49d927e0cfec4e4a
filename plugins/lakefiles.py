"""How table files reach the object store: one PUT for a small file.

pyarrow opens a multipart upload for every file unless it may delay opening: three requests where one does. Our partitions are small files by
the thousand, so this is most of a load's time. pyiceberg offers no property for it; the hook below is pinned with its version.
"""

from __future__ import annotations

from pyarrow.fs import S3FileSystem
from pyiceberg.io.pyarrow import PyArrowFileIO


def file_system(*, access_key: str, secret_key: str, region: str, endpoint: str) -> S3FileSystem:
    """The object store as a file system; an empty endpoint is AWS."""
    return S3FileSystem(
        access_key=access_key,
        secret_key=secret_key,
        region=region,
        endpoint_override=endpoint or None,
        connect_timeout=5,
        allow_delayed_open=True,
    )


class OnePutFileIO(PyArrowFileIO):
    """pyiceberg's own FileIO with the file system above for s3:// paths."""

    def _initialize_s3_fs(self, netloc: str | None) -> S3FileSystem:
        """Called once per process and bucket."""
        return file_system(
            access_key=self.properties["s3.access-key-id"],
            secret_key=self.properties["s3.secret-access-key"],
            region=self.properties["s3.region"],
            endpoint=self.properties.get("s3.endpoint", ""),
        )
