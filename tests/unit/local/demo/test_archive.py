from local.demo.archive import prove
from tests.worlds.evidence import three_days
from tests.worlds.s3 import VersionedBucket

KEY = "trigger/2/2_trigger_20260302.json"


class Bucket(VersionedBucket):
    """A bucket from which a version can be deleted for good."""

    def delete_object(self, **request: str) -> None:
        versions = self.objects[request["Key"]]
        self.objects[request["Key"]] = [version for version in versions if version.id != request["VersionId"]]


def test_evidence_is_proven_and_a_forgery_is_found_and_taken_away() -> None:
    s3 = Bucket()
    three_days(s3)
    before = s3.bodies(KEY)
    shown = prove(s3, s3.bucket, KEY)
    assert len(shown) == 2
    assert all(shown.values())
    assert s3.bodies(KEY) == before


def test_evidence_that_is_not_proven_is_shown_as_such() -> None:
    s3 = Bucket()
    three_days(s3)
    del s3.objects["trigger/1/1_trigger_20260301.json"]
    assert not any(prove(s3, s3.bucket, KEY).values())
