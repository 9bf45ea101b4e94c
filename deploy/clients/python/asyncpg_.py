"""asyncpg, which sends a cancel request when a statement takes longer than it may."""

import ast
import asyncio
import time

import asyncpg
import trial

REMEMBERING = """
do $$ begin
  perform pg_sleep(30);
exception when query_canceled then
  perform set_config('trial.ended_by', sqlstate, false);
end $$
"""


async def walk(request):
    code = compile(request["connection"], "connection", "eval", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    connection = await eval(code, {"asyncpg": asyncpg})
    row = await connection.fetchrow(trial.statement("${}"), *trial.PARAMETERS)
    rows = len(await connection.fetch(trial.ROWS))

    # It keeps the server's error from its caller, so the session has to remember what ended the statement.
    started = time.monotonic()
    try:
        await connection.execute(REMEMBERING, timeout=trial.PATIENCE)
        sqlstate = None
    except asyncio.TimeoutError:
        sqlstate = await connection.fetchval("select current_setting('trial.ended_by', true)")
    alive = await connection.fetchval("select 42") == 42
    await connection.close()
    return tuple(row), rows, [trial.cancelled("as the session", sqlstate, started, alive)]


trial.run(f"asyncpg {asyncpg.__version__}", walk)
