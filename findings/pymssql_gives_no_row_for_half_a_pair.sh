#!/usr/bin/env bash
# pymssql 2.3.13: one row with half a surrogate pair in its text costs the whole result.
#
# SQL Server keeps in NVARCHAR whatever 16-bit units it is given, so a name that was cut in the middle of an emoji and
# then got a suffix holds half a pair. FreeTDS hands it on as three bytes that are no UTF-8, and pymssql decodes
# strictly: fetchall() raises UnicodeDecodeError, a ValueError and no pymssql.Error, whichever rows are good. A half at
# the very end of a text is dropped without a word. No argument of connect() makes the decoding lenient. What helps is
# to select CONVERT(varbinary(800), CONVERT(nvarchar(400), name)) and to decode UTF-16 with errors="surrogatepass".
#
# The server below speaks as much of SQL Server's protocol (TDS 7.4) as a login and a query need; its rows are fixed.
#
# Seen: rows for a whole emoji; 'Cut ' for a half at the end; UnicodeDecodeError for a half in the middle.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pymssql==2.3.13

"$work/venv/bin/python" - <<'PY'
import socketserver
import struct
import threading

import pymssql

PRELOGIN, LOGIN, BATCH = 0x12, 0x10, 0x01
COLLATION = bytes.fromhex("0904d00034")
DONE = b"\xfd" + struct.pack("<HHQ", 0, 0, 0)
names = []


def text(value):
    return bytes([len(value)]) + value.encode("utf-16-le")


def answer(kind, message):
    """What SQL Server says to one message of a client."""
    if kind == PRELOGIN:
        # Its version, and that it does not encrypt.
        return bytes.fromhex("00000b0006" "0100110001" "ff") + bytes.fromhex("0f0007d00000" "02")
    if kind == LOGIN:
        known = b"\x01" + struct.pack(">I", 0x74000004) + text("Microsoft SQL Server") + bytes.fromhex("0f0007d0")
        return b"\xad" + struct.pack("<H", len(known)) + known + DONE
    if kind != BATCH or "SELECT name" not in message.decode("utf-16-le", "replace"):
        return DONE
    column = struct.pack("<IH", 0, 0x09) + b"\xe7" + struct.pack("<H", 200) + COLLATION + text("name")
    units = [name.encode("utf-16-le", "surrogatepass") for name in names]
    rows = b"".join(b"\xd1" + struct.pack("<H", len(each)) + each for each in units)
    return b"\x81" + struct.pack("<H", 1) + column + rows + b"\xfd" + struct.pack("<HHQ", 0x10, 0xC1, len(names))


class Server(socketserver.StreamRequestHandler):
    def handle(self):
        message = b""
        while head := self.rfile.read(8):
            kind, last, size = struct.unpack(">BBH", head[:4])
            message += self.rfile.read(size - 8)
            if last & 1:
                said, message = answer(kind, message), b""
                self.wfile.write(struct.pack(">BBHHBB", 4, 1, len(said) + 8, 0, 1, 0) + said)


def ask(*stored):
    """What a client reads of a table with these names."""
    names[:] = stored
    host, port = server.server_address
    login = {"server": host, "port": str(port), "user": "u", "password": "p", "login_timeout": 10, "timeout": 10}
    with pymssql.connect(**login, tds_version="7.4", encryption="off") as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT name FROM client")
        try:
            return [name for (name,) in cursor.fetchall()]
        except Exception as error:
            return f"{type(error).__name__}, pymssql's own: {isinstance(error, pymssql.Error)}"


with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Server) as server:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    whole = ask("Acme", "Cut \U0001f33a (old)")
    at_the_end = ask("Acme", "Cut \ud83c")
    in_the_middle = ask("Acme", "Cut \ud83c (old)")
    server.shutdown()
print("whole:", whole, "half at the end:", at_the_end, "half in the middle:", in_the_middle, sep="\n")
assert whole == ["Acme", "Cut \U0001f33a (old)"]
assert at_the_end == ["Acme", "Cut "]
assert in_the_middle == "UnicodeDecodeError, pymssql's own: False"
PY
