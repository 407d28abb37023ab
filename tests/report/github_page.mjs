// Markdown on stdin -> the HTML that GitHub makes of it, on stdout.
// GitHub's dialect (remark-gfm), raw HTML only as far as GitHub's sanitizer leaves it (rehype-sanitize has its list by default: no
// style, no svg, no script), and Mermaid blocks as elements for the browser to draw.
import { readFileSync } from "node:fs";
import raw from "rehype-raw";
import sanitize from "rehype-sanitize";
import stringify from "rehype-stringify";
import gfm from "remark-gfm";
import parse from "remark-parse";
import rehype from "remark-rehype";
import { unified } from "unified";
import { visit } from "unist-util-visit";

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
