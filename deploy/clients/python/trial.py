"""What every Python driver is put through: one JSON line in on stdin, one out on stdout.

The statement has a parameter of each of a few types, and gives each back changed, so that neither side can have guessed it.
"""

import asyncio
import json
import ssl
import sys
import threading
import time

COLUMNS = "{}::int4 + 1, {}::text || '!', not {}::bool, {}::float8 * 2, {}::bytea || '\\x00ff'::bytea, {}::text"
PARAMETERS = (41, "Grüße", True, 1.25, b"\x01\x02", None)
ROWS = "select g from generate_series(1, 20000) g"
LONG = "select pg_sleep(30)"
# When the cancel is sent.
PATIENCE = 0.5


def statement(placeholder):
    """The statement with this placeholder for each parameter, in which {} is its number."""
    return "select " + COLUMNS.format(*(placeholder.format(number) for number in range(1, 7)))


def client_context():
    """TLS that shows client.crt and, as sslmode=require, believes anybody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain("client.crt", "client.key")
    return context


def plain(value):
    """A value as JSON has it."""
    return bytes(value).hex() if isinstance(value, (bytes, memoryview)) else value


def later(action):
    """Does something while a statement runs."""
    timer = threading.Timer(PATIENCE, action)
    timer.start()
    return timer


def cancelled(how, sqlstate, started, alive):
    """What became of one statement that was cancelled."""
    return {"how": how, "sqlstate": sqlstate, "seconds": time.monotonic() - started, "alive": alive}


def run(driver, walk):
    """Walks a driver through the trial. `walk` takes the request, and gives the row, the number of rows and the cancels."""
    request = json.loads(sys.stdin.readline())
    try:
        outcome = walk(request)
        row, rows, cancels = asyncio.run(outcome) if asyncio.iscoroutine(outcome) else outcome
        answer = {"driver": driver, "row": [plain(value) for value in row], "rows": rows, "cancels": cancels}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
