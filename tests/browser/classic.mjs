// Writes the classic scripts, redis_pubsub.classic.js and events.classic.js:
//   node tests/browser/classic.mjs
// With --check it writes nothing, and fails where a file is not what it would write.

import { readFileSync, writeFileSync } from "node:fs";

const FOLDER = new URL("../../redis_pubsub/static/redis_pubsub/", import.meta.url);
const MODULES = ["redis_pubsub", "events"];

const EXPORT = /^export (\{[^}]*\});\n$/m;

/** The module's body in a function of its own, its exports at window.redisPubSub. */
export function classic(source) {
  if (source.match(/^export /gm)?.length !== 1 || !EXPORT.test(source)) {
    throw new Error("the module must end with its one export line");
  }
  const added = "Object.assign((globalThis.redisPubSub ??= {}), $1);\n";
  return `(() => {\n"use strict";\n${source.replace(EXPORT, added)}})();\n`;
}

function main() {
  for (const name of MODULES) {
    const file = new URL(`${name}.classic.js`, FOLDER);
    const wanted = classic(readFileSync(new URL(`${name}.js`, FOLDER), "utf8"));
    if (!process.argv.includes("--check")) writeFileSync(file, wanted);
    else if (readFileSync(file, "utf8") !== wanted) {
      console.error(`${name}.classic.js is not the module: run node tests/browser/classic.mjs`);
      process.exitCode = 1;
    }
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) main();
