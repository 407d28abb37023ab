// Markdown on stdin -> the HTML that GitHub makes of it, on stdout: node github_page.mjs MODULES
// MODULES is a node_modules folder. GitHub's dialect (remark-gfm), raw HTML only as far as GitHub's sanitizer leaves it
// (rehype-sanitize has its list by default: no style, no svg, no script), and Mermaid blocks as elements for the browser to draw.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const load = async (name) => import(pathToFileURL(resolve(process.argv[2], name, "index.js")));
const { unified } = await load("unified");
const { visit } = await load("unist-util-visit");
const names = ["remark-parse", "remark-gfm", "remark-rehype", "rehype-raw", "rehype-sanitize", "rehype-stringify"];
const [parse, gfm, rehype, raw, sanitize, stringify] = (await Promise.all(names.map(load))).map((found) => found.default);

const diagrams = () => (tree) =>
  visit(tree, "element", (node) => {
    const [code] = node.tagName === "pre" ? node.children : [];
    if (!code?.properties?.className?.includes("language-mermaid")) return;
    node.tagName = "div";
    node.properties = { className: ["mermaid"] };
    node.children = code.children;
  });

const page = await unified()
  .use(parse)
  .use(gfm)
  .use(rehype, { allowDangerousHtml: true })
  .use(raw)
  .use(sanitize)
  .use(diagrams)
  .use(stringify)
  .process(readFileSync(0, "utf8"));
process.stdout.write(String(page));
