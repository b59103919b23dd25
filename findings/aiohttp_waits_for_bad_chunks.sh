#!/usr/bin/env bash
# aiohttp 3.14.3: a body whose chunks are malformed is waited for without end, beyond the read time-out.
#
# When the head of a response has been read and a chunk's size in a later packet is no number, the C parser raises,
# aiohttp closes the connection and switches its read time-out off, but nothing tells whoever reads the body:
# response.read() waits on, also after the server has closed the connection. Without a total time-out that is for ever.
# The Python parser (AIOHTTP_NO_EXTENSIONS=1) raises TransferEncodingError at once.
#
# Seen: with a read time-out of 1 s, C parser: still waiting after 5 s; Python parser: TransferEncodingError.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt aiohttp==3.14.3

cat >"$work/read.py" <<'PY'
import asyncio

import aiohttp


async def answer(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.write(b"size\r\nok\r\n0\r\n\r\n")
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_read=1)) as session:
        async with session.get(url) as response:
            try:
                print(await asyncio.wait_for(response.read(), 5))
            except Exception as error:
                print("still waiting" if isinstance(error, TimeoutError) else type(error).__name__)


asyncio.run(main())
PY

compiled=$("$work/venv/bin/python" "$work/read.py" 2>/dev/null)
pure=$(AIOHTTP_NO_EXTENSIONS=1 "$work/venv/bin/python" "$work/read.py" 2>/dev/null)
echo "C parser: $compiled; Python parser: $pure"
[ "$compiled" = "still waiting" ] && [ "$pure" = "TransferEncodingError" ]
