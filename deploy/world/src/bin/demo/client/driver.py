"""Drives psycopg for the demo: one JSON line in on stdin, JSON lines out on stdout."""

import json
import select
import sys
import threading
import time

import psycopg


def say(**words):
    print(json.dumps(words), flush=True)


def version(_request):
    say(libpq=psycopg.pq.version())


def query(request):
    """Runs one statement and gives its rows."""
    with psycopg.connect(request["conninfo"], password=request["password"], autocommit=True) as connection:
        say(rows=[list(map(str, row)) for row in connection.execute(request["statement"]).fetchall()])


def insert(request):
    """Inserts rows by the extended protocol, and reads them back."""
    table, count, text = request["table"], request["rows"], request["text"]
    with psycopg.connect(request["conninfo"], password=request["password"]) as connection:
        connection.execute(f"drop table if exists {table}")
        connection.execute(f"create table {table} (id int primary key, body text not null)")
        with connection.cursor() as cursor:
            rows = [(number, f"{text} {number}") for number in range(count)]
            cursor.executemany(f"insert into {table} values (%s, %s)", rows)
        connection.commit()
        read = connection.execute(f"select id, body from {table} order by id").fetchall()
        say(rows=len(read), same=read == rows)


def cancel(request):
    """Cancels a long statement from another thread, as an application would."""
    with psycopg.connect(request["conninfo"], password=request["password"], autocommit=True) as connection:
        started = time.monotonic()
        timer = threading.Timer(0.5, connection.cancel_safe)
        timer.start()
        try:
            connection.execute("select pg_sleep(30)")
            say(cancelled=False, seconds=time.monotonic() - started)
        except psycopg.errors.QueryCanceled as error:
            elapsed = time.monotonic() - started
            alive = connection.execute("select 1").fetchone() == (1,)
            say(cancelled=True, seconds=elapsed, sqlstate=error.sqlstate, alive=alive)
        timer.join()


def hold(request):
    """Keeps an idle session and tells at once when it is cut."""
    with psycopg.connect(request["conninfo"], password=request["password"], autocommit=True) as connection:
        connection.execute("select 1")
        say(held=True)
        select.select([connection.fileno()], [], [], request["seconds"])
        noticed = time.monotonic()
        say(readable=True)
        try:
            connection.execute("select 1")
            say(cut=False)
        except psycopg.Error as error:
            say(cut=True, after=time.monotonic() - noticed, error=str(error).strip())


def main():
    request = json.loads(sys.stdin.readline())
    try:
        {"version": version, "query": query, "insert": insert, "cancel": cancel, "hold": hold}[request["action"]](request)
    except psycopg.Error as error:
        say(error=str(error).strip())


main()
