// What every JavaScript driver is put through: one JSON line in on stdin, one out on stdout. See ../python/trial.py.

import fs from "node:fs";

export const statement =
  "select $1::int4 + 1, $2::text || '!', not $3::bool, $4::float8 * 2, $5::bytea || '\\x00ff'::bytea, $6::text";
export const parameters = [41, "Grüße", true, 1.25, Buffer.from([1, 2]), null];
export const rows = "select g from generate_series(1, 20000) g";
export const long = "select pg_sleep(30)";

// TLS that shows client.crt and, as sslmode=require, believes anybody.
export const clientTls = () => ({
  rejectUnauthorized: false,
  cert: fs.readFileSync("client.crt"),
  key: fs.readFileSync("client.key"),
});

// Evaluates a connection's expression with these names in it.
export function evaluate(expression, names) {
  return new Function(...Object.keys(names), `return ${expression}`)(...Object.values(names));
}

// Sends a cancel while a statement runs. Gives what became of the statement.
export async function cancelled(how, running, cancel, alive) {
  const started = performance.now();
  const timer = setTimeout(cancel, 500);
  const sqlstate = await running.then(
    () => null,
    (error) => error.code,
  );
  clearTimeout(timer);
  return { how, sqlstate, seconds: (performance.now() - started) / 1000, alive: await alive() };
}

const plain = (value) => (Buffer.isBuffer(value) ? value.toString("hex") : value);

// Walks a driver through the trial. `walk` takes the request, and gives the row, the number of rows and the cancels.
export async function run(driver, walk) {
  const request = JSON.parse(fs.readFileSync(0, "utf8"));
  let answer;
  try {
    const { row, rows, cancels } = await walk(request);
    answer = { driver, row: row.map(plain), rows, cancels };
  } catch (error) {
    answer = { error: `${error.code ?? error.name}: ${error.message}` };
  }
  fs.writeSync(1, `${JSON.stringify(answer)}\n`);
  process.exit();
}
