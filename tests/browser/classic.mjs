// Writes redis_pubsub.classic.js, the module as a classic script:
//   node tests/browser/classic.mjs
// With --check it writes nothing, and fails where the file is not what it would write.

import { readFileSync, writeFileSync } from "node:fs";

const FOLDER = new URL("../../redis_pubsub/static/redis_pubsub/", import.meta.url);
const MODULE = new URL("redis_pubsub.js", FOLDER);
const CLASSIC = new URL("redis_pubsub.classic.js", FOLDER);

const EXPORT = /^export (\{[^}]*\});\n$/m;

/** The module's body in a function of its own, its exports at window.redisPubSub. */
export function classic(source) {
  if (source.match(/^export /gm)?.length !== 1 || !EXPORT.test(source)) {
    throw new Error("the module must end with its one export line");
  }
  const body = source.replace(EXPORT, "globalThis.redisPubSub = $1;\n");
  return `(() => {\n"use strict";\n${body}})();\n`;
}

function main() {
  const wanted = classic(readFileSync(MODULE, "utf8"));
  if (!process.argv.includes("--check")) return writeFileSync(CLASSIC, wanted);
  if (readFileSync(CLASSIC, "utf8") === wanted) return undefined;
  console.error("redis_pubsub.classic.js is not the module: run node tests/browser/classic.mjs");
  process.exitCode = 1;
  return undefined;
}

if (process.argv[1] === new URL(import.meta.url).pathname) main();
