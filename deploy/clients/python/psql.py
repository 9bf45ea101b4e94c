"""psql, the one that is first on PATH. Its parameters are those of PREPARE; what it prints is read as JSON."""

import json
import os
import pty
import shlex
import signal
import subprocess
import time

import trial

TYPES = "int, text, bool, float8, bytea, text"
PROMPT = b"=> "
ARGUMENTS = "41, :'text', true, 1.25, '\\x0102', null"


OPTIONS = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-readline", "--pset=pager=off"]
OPTIONS += ["--set=VERBOSITY=verbose"]


def start(request, *options, **streams):
    words = shlex.split(request["connection"])
    environment = {**os.environ, "PGPASSWORD": request["secret"], "PGCONNECT_TIMEOUT": "20"}
    return subprocess.Popen([*words, *OPTIONS, *options], env=environment, **streams)


def script(request, statements):
    """Runs a script and gives what psql printed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start(request, "--file=-", "--set=text=Grüße", text=True, **pipes)
    out, errors = process.communicate(statements)
    if process.returncode:
        raise RuntimeError(errors.strip())
    return out


def read_until(terminal, mark):
    """Reads until a mark comes, or the end."""
    said = b""
    try:
        while mark is None or mark not in said:
            said += os.read(terminal, 4096)
    except OSError:
        pass  # What a terminal says when nobody holds its other end any more.
    return said


def cancel(request):
    """Cancels by Ctrl-C. At a terminal, as psql ends a script with its first interrupt and could not say any more."""
    own, its = pty.openpty()
    started = time.monotonic()
    process = start(request, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    # Before it has a session, an interrupt would end psql itself.
    said = read_until(own, PROMPT)
    os.write(own, f"{trial.LONG};\n".encode())
    time.sleep(2 * trial.PATIENCE)
    process.send_signal(signal.SIGINT)
    os.write(own, b"select 40 + 2;\n\\q\n")
    said += read_until(own, None)
    process.wait()
    said = said.decode(errors="replace")
    sqlstate = "57014" if "ERROR:  57014:" in said else said
    return trial.cancelled("plaintext", sqlstate, started, "42" in said.split())


def walk(request):
    columns = trial.COLUMNS.format("$1", "$2", "$3", "$4", "$5", "$6").split(", ")
    columns[4] = f"encode({columns[4]}, 'hex')"
    statements = f"prepare trial({TYPES}) as select json_build_array({', '.join(columns)});\n"
    statements += f"execute trial({ARGUMENTS});\n{trial.ROWS};\n"
    row, *rows = script(request, statements).splitlines()
    return json.loads(row), len(rows), [cancel(request)]


version = subprocess.run(["psql", "--version"], capture_output=True, text=True).stdout.split()[2]
trial.run(f"psql {version}", walk)
