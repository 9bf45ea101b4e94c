"""psycopg 3, whose wheel brings a libpq of its own."""

import time

import psycopg
import trial


def cancel(connection, how, action):
    started = time.monotonic()
    timer = trial.later(action)
    try:
        connection.execute(trial.LONG)
        sqlstate = None
    except psycopg.errors.QueryCanceled as error:
        sqlstate = error.sqlstate
    timer.join()
    return trial.cancelled(how, sqlstate, started, connection.execute("select 42").fetchone() == (42,))


def walk(request):
    with eval(request["connection"], {"psycopg": psycopg}) as connection:
        connection.autocommit = True
        row = connection.execute(trial.statement("%s"), trial.PARAMETERS).fetchone()
        rows = len(connection.execute(trial.ROWS).fetchall())
        cancels = [cancel(connection, "encrypted", connection.cancel_safe)]
        # The older call goes through libpq's older function, which knows no TLS and no key of protocol 3.2.
        if connection.pgconn.full_protocol_version < 30002:
            cancels.append(cancel(connection, "plaintext", connection.cancel))
        return row, rows, cancels


libpq = psycopg.pq.version()
trial.run(f"psycopg {psycopg.__version__}, libpq {libpq // 10000}.{libpq % 10000}", walk)
