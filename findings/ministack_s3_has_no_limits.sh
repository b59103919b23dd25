#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: S3 takes keys, parts, metadata and deletions beyond its limits.
#
# A key of S3 has at most 1,024 bytes, a part of an upload at least 5 MB unless it is the last, metadata 2 KB, a call of
# delete_objects 1,000 keys, a page of a listing 1,000. boto3 checks none of them. The emulator refuses an eleventh tag
# and a wrong checksum, but holds none of these. So what moves a file to a folder with a date, which makes its key
# longer, joins small files by upload_part_copy, keeps a file's history in metadata, or deletes what one listing gave,
# passes each test, and on AWS fails for the long name or the full folder: KeyTooLongError, EntityTooSmall,
# MetadataTooLarge, MalformedXML; or it sees the first 1,000 of 1,001.
#
# Seen: a key of 1,025 bytes, two parts of one byte, metadata of 3,000 and 1,001 deletions are accepted, and a page has
# 1,001 keys; eleven tags BadRequest. Three of the limits stand in boto3's own description of the calls.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  ministack==1.5.33 boto3==1.43.102
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
  "$work/emulator/bin/python" - <<'PY'
import re

import boto3
from botocore.exceptions import ClientError

s3 = boto3.client("s3")
s3.create_bucket(Bucket="files", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})


def put(key, **more):
    return s3.put_object(Bucket="files", Key=key, Body=b"x", **more)["ResponseMetadata"]["HTTPStatusCode"]


def described(operation, *words):
    """Whether boto3's description of a call has these words."""
    text = s3.meta.service_model.operation_model(operation).documentation
    plain = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    return all(word in plain for word in words)


long_key, long_metadata = put("k" * 1025), put("metadata", Metadata={"history": "x" * 3000})
upload = {"Bucket": "files", "Key": "joined"}
upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
parts = [{"PartNumber": n, "ETag": s3.upload_part(**upload, PartNumber=n, Body=b"x")["ETag"]} for n in (1, 2)]
s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
joined = s3.get_object(Bucket="files", Key="joined")["Body"].read()
for number in range(1001):
    put(f"many/{number:04}")
page = s3.list_objects_v2(Bucket="files", Prefix="many/", MaxKeys=2000)["Contents"]
deleted = s3.delete_objects(Bucket="files", Delete={"Objects": [{"Key": found["Key"]} for found in page]})["Deleted"]
try:
    tags = put("tags", Tagging="&".join(f"tag{number}=x" for number in range(11)))
except ClientError as error:
    tags = error.response["Error"]["Code"]
limits = {
    "CompleteMultipartUpload": described("CompleteMultipartUpload", "EntityTooSmall", "at least 5 MB in size"),
    "DeleteObjects": described("DeleteObjects", "1,000 keys") or described("DeleteObjects", "1000 keys"),
    "ListObjectsV2": described("ListObjectsV2", "up to 1,000"),
}
print("key:", long_key, "metadata:", long_metadata, "joined:", joined, "page:", len(page), "deleted:", len(deleted))
print("tags:", tags, "described:", limits)
assert (long_key, long_metadata, joined) == (200, 200, b"xx")
assert len(page) == len(deleted) == 1001
assert tags == "BadRequest"
assert all(limits.values())
PY
