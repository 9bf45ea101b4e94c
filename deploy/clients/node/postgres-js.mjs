// postgres.js.

import { createRequire } from "node:module";
import path from "node:path";
import fs from "node:fs";
import postgres from "postgres";
import { cancelled, clientTls, evaluate, long, parameters, rows, run, statement } from "./trial.mjs";

// Its package.json is no export of the package.
const main = createRequire(import.meta.url).resolve("postgres");
const { version } = JSON.parse(fs.readFileSync(path.join(path.dirname(main), "../../package.json"), "utf8"));

await run(`postgres.js ${version}`, async ({ connection }) => {
  const tls = connection.includes("ssl: tls") ? clientTls() : undefined;
  const sql = evaluate(connection, { postgres, tls });
  // A reserved connection: it is the one that a cancelled statement must leave usable.
  const session = await sql.reserve();
  const [row] = await session.unsafe(statement, parameters).values();
  const many = await session.unsafe(rows);

  const query = session.unsafe(long);
  query.execute();
  const alive = async () => (await session.unsafe("select 42 as n"))[0].n === 42;
  const cancels = [await cancelled("as the session", query, () => query.cancel(), alive)];
  session.release();
  await sql.end();
  return { row, rows: many.length, cancels };
});
