"""pg8000, which is Python alone."""

import pg8000.dbapi
import trial


def walk(request):
    names = {"pg8000": pg8000.dbapi}
    if "ssl_context=context" in request["connection"]:
        names["context"] = trial.client_context()
    connection = eval(request["connection"], names)
    cursor = connection.cursor()
    cursor.execute(trial.statement("%s"), trial.PARAMETERS)
    row = cursor.fetchone()
    cursor.execute(trial.ROWS)
    rows = len(cursor.fetchall())
    connection.close()
    return row, rows, []


trial.run(f"pg8000 {pg8000.__version__}", walk)
