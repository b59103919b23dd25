import pytest

from tests.worlds.evidence import three_days
from tests.worlds.s3 import VersionedBucket


@pytest.fixture
def s3() -> VersionedBucket:
    """An archive of three days, of which all is proven."""
    bucket = VersionedBucket()
    three_days(bucket)
    return bucket
