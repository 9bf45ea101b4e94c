// node-postgres, which cancels by a second client over a connection without TLS.

import { createRequire } from "node:module";
import pg from "pg";
import { cancelled, evaluate, long, parameters, rows, run, statement } from "./trial.mjs";

const { version } = createRequire(import.meta.url)("pg/package.json");

await run(`node-postgres ${version}`, async ({ connection }) => {
  const client = evaluate(connection, { pg });
  await client.connect();
  const answer = await client.query({ text: statement, values: parameters, rowMode: "array" });
  const many = await client.query(rows);

  let query;
  const running = new Promise((resolve, reject) => {
    query = new pg.Query(long, [], (error, result) => (error ? reject(error) : resolve(result)));
    client.query(query);
  });
  const { host, port, user, database } = client;
  const cancel = () => new pg.Client({ host, port, user, database, ssl: false }).cancel(client, query);
  const alive = async () => (await client.query("select 42 as n")).rows[0].n === 42;
  const cancels = [await cancelled("plaintext", running, cancel, alive)];
  await client.end();
  return { row: answer.rows[0], rows: many.rows.length, cancels };
});
