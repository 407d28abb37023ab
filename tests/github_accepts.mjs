// Asks GitHub's own language service whether it accepts workflows and action.yml: node github_accepts.mjs MODULES FILE...
// MODULES is the node_modules folder that has @actions/languageservice. Every finding is printed; with one, the exit code is 1.
import { readFileSync } from "node:fs";
import { register } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

// The package imports JSON files as bundlers do; node itself wants that said.
const hook = `import { readFileSync } from "node:fs";
export const load = async (url, context, next) => url.endsWith(".json")
  ? { format: "module", shortCircuit: true, source: "export default " + readFileSync(new URL(url), "utf8") }
  : next(url, context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);

const [modules, ...files] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(resolve(modules, path)));
const { validate } = await load("@actions/languageservice/dist/index.js");
const { TextDocument } = await load("vscode-languageserver-textdocument/lib/esm/main.js");
const { parse } = await load("yaml/dist/index.js");

const text = (path) => readFileSync(path, "utf8");
const ours = parse(text("action.yml"));
const config = {
  // `with:` is checked against our action.yml; other actions' inputs are not known here
  actionsMetadataProvider: {
    fetchActionMetadata: async ({ owner, name }) => (`${owner}/${name}` === "9cog/echoself-action" ? ours : {}),
  },
  fileProvider: { getFileContent: async ({ path }) => ({ name: path, content: text(path) }) },
};

const severe = 2; // errors are 1, warnings 2; a cron pattern in words is 3
let found = 0;
for (const file of files) {
  const document = TextDocument.create(pathToFileURL(resolve(file)).href, "yaml", 1, text(file));
  for (const { message, range, severity } of await validate(document, config)) {
    if ((severity ?? 1) > severe) continue;
    console.log(`${file}:${range.start.line + 1}: ${message}`);
    found += 1;
  }
}
console.log(`GitHub's language service: ${files.length} files, ${found} findings`);
process.exitCode = found ? 1 : 0;
