#!/usr/bin/env bash
# boto3 1.43.56, s3transfer 0.19.2: a download below 8 MB whose connection breaks gives wrong content, without an error.
#
# boto3's downloads begin anew when the connection breaks, up to five times. From 8 MB on they ask for parts with
# If-Match and put them in order; below, one request without a condition is repeated from its first byte. A stream that
# cannot seek, a pipe or standard output, so gets the first part twice. A file is written over from its beginning, and
# if somebody has replaced the object meanwhile by a shorter one, the end of the old one stays behind the new one. No
# error is raised. multipart_threshold=1 makes a small download as careful as a large one.
#
# Seen, of 2 MB that break off after the first: pipe 3 MB; with the threshold 2 MB. Replaced by 0.5 MB: a file of 1 MB,
# half new, half old; with the threshold S3DownloadFailedError.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check boto3==1.43.56 botocore==1.43.56 s3transfer==0.19.2

"$work/venv/bin/python" - "$work" <<'PY'
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig
from s3transfer.exceptions import S3DownloadFailedError

OLD, NEW = b"o" * 2_000_000, b"n" * 500_000
CAREFUL = TransferConfig(multipart_threshold=1)
work = Path(sys.argv[1])


class S3(BaseHTTPRequestHandler):
    """One object. The first answer with it breaks off in the middle; then the object is what ``later`` says."""

    later = body = OLD

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(200, len(S3.body))

    def do_GET(self):
        body, etag = S3.body, self.etag()
        if self.headers.get("If-Match", etag) != etag:
            refusal = b"<Error><Code>PreconditionFailed</Code></Error>"
            self.answer(412, len(refusal))
            self.wfile.write(refusal)
            return
        self.answer(206 if "Range" in self.headers else 200, len(body))
        if S3.breaks:
            S3.breaks, S3.body = False, S3.later
            body = body[:1_000_000]
        self.wfile.write(body)

    def answer(self, status, length):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", self.etag())
        if status == 206:
            self.send_header("Content-Range", f"bytes 0-{length - 1}/{length}")
        self.end_headers()

    def etag(self):
        return f'"{S3.body[:1].decode()}"'


server = ThreadingHTTPServer(("127.0.0.1", 0), S3)
threading.Thread(target=server.serve_forever, daemon=True).start()
s3 = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{server.server_port}",
    region_name="eu-west-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)


def piped(config=None):
    S3.breaks, S3.body, S3.later = True, OLD, OLD
    end, beginning = os.pipe()
    received = []
    reader = threading.Thread(target=lambda: received.append(open(end, "rb").read()))
    reader.start()
    with open(beginning, "wb") as stream:
        s3.download_fileobj("bucket", "key", stream, Config=config)
    reader.join()
    return len(received[0])


def saved(config=None):
    S3.breaks, S3.body, S3.later = True, OLD, NEW
    try:
        s3.download_file("bucket", "key", str(work / "file"), Config=config)
    except S3DownloadFailedError as error:
        return type(error).__name__
    content = (work / "file").read_bytes()
    assert content == b"n" * content.count(b"n") + b"o" * content.count(b"o")
    return content.count(b"n"), content.count(b"o")


pipe, careful_pipe = piped(), piped(CAREFUL)
file, careful_file = saved(), saved(CAREFUL)
print("pipe:", pipe, "careful:", careful_pipe, "file, new and old:", file, "careful:", careful_file)
assert (pipe, careful_pipe) == (3_000_000, 2_000_000)
assert (file, careful_file) == ((500_000, 500_000), "S3DownloadFailedError")
PY
