"""psycopg2, whose wheel brings a libpq of its own."""

import time

import psycopg2
import psycopg2.extensions
import trial


def walk(request):
    connection = eval(request["connection"], {"psycopg2": psycopg2})
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(trial.statement("%s"), trial.PARAMETERS)
        row = cursor.fetchone()
        cursor.execute(trial.ROWS)
        rows = len(cursor.fetchall())

        started = time.monotonic()
        timer = trial.later(connection.cancel)
        try:
            cursor.execute(trial.LONG)
            sqlstate = None
        except psycopg2.errors.QueryCanceled as error:
            sqlstate = error.pgcode
        timer.join()
        cursor.execute("select 42")
        cancels = [trial.cancelled("plaintext", sqlstate, started, cursor.fetchone() == (42,))]
    connection.close()
    return row, rows, cancels


libpq = psycopg2.extensions.libpq_version()
trial.run(f"psycopg2 {psycopg2.__version__.split()[0]}, libpq {libpq // 10000}.{libpq % 10000}", walk)
