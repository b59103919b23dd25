#!/usr/bin/env bash
# boto3/botocore 1.43.56: each put_object and upload_part pauses for an interim answer, also for an empty body.
#
# Every upload carries "Expect: 100-continue", and the body stays in the client until the server has answered "100" or
# a second has passed. There is no threshold: one byte and no byte wait as a hundred megabytes do. So a small object
# costs two round trips, and a local server or proxy that does not answer the expectation costs a second each.
#
# Seen, with a server that answers after 0.4 s: four uploads, four expectations, no body sent before the answer; one
# that never answers it: 1.0 s for one byte.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check boto3==1.43.56 botocore==1.43.56

"$work/venv/bin/python" - <<'PY'
import select
import socketserver
import threading
import time

import boto3

seen = []
answers_expectation = True


class S3(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            headers = {}
            while line := self.rfile.readline().decode().strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            length = int(headers["content-length"])
            if answers_expectation:
                early = bool(select.select([self.connection], [], [], 0.4)[0])
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                seen.append((length, headers.get("expect"), early))
            self.rfile.read(length)
            self.wfile.write(b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n')


server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), S3)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
s3 = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
    region_name="eu-west-1",
    aws_access_key_id="made-up",
    aws_secret_access_key="made-up",
)
for body in (b"", b"x", b"x" * 100_000):
    s3.put_object(Bucket="b", Key="k", Body=body)
s3.upload_part(Bucket="b", Key="k", UploadId="u", PartNumber=1, Body=b"x")
print("length, Expect, body before the answer:", seen)
assert seen == [(length, "100-continue", False) for length in (0, 1, 100_000, 1)]

answers_expectation = False
start = time.monotonic()
s3.put_object(Bucket="b", Key="k", Body=b"x")
waited = time.monotonic() - start
print(f"without an answer: {waited:.1f} s")
assert waited >= 0.9
PY
