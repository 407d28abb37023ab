// All calls of huggingface.js against a Hub, in one process: prints what each returned, as JSON.

import { mkdtempSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import * as hub from "@huggingface/hub";

const [hubUrl, accessToken, folder] = process.argv.slice(2);
console.debug = () => {}; // the library reports each file of a snapshot here
const common = { hubUrl, accessToken };
const repo = "me/model";
const big = new Uint8Array(2_500_000).map((_, index) => (index * 2654435761) >>> 11);
const same = (bytes) => Buffer.from(bytes).equals(Buffer.from(big));
const found = {};

async function all(listing) {
  const items = [];
  for await (const item of listing) items.push(item);
  return items;
}

async function refusal(call) {
  try {
    return await call;
  } catch (error) {
    return { status: error.statusCode, message: error.message };
  }
}

const me = await hub.whoAmI(common);
found.whoAmI = [me.name, me.type, me.auth.accessToken.role];

found.createRepo = await hub.createRepo({
  ...common,
  repo,
  license: "mit",
  files: [
    { path: "config.json", content: new Blob(['{"model_type": "gpt2"}']) },
    { path: "sub/deep/a.txt", content: new Blob(["ä"]) },
  ],
});
found.created = (await all(hub.listFiles({ ...common, repo, recursive: true }))).map((file) => file.path);
found.createdAgain = await refusal(hub.createRepo({ ...common, repo }));

const uploaded = await hub.uploadFiles({
  ...common,
  repo,
  commitTitle: "Upload",
  files: [
    { path: "small.txt", content: new Blob(["hello"]) },
    { path: "empty.txt", content: new Blob([]) },
    { path: "empty folder/b.bin", content: new Blob(["binary"]) }, // LFS, in one part
    { path: "model.safetensors", content: new Blob([big]) }, // LFS, in parts
  ],
});
found.uploadFiles = uploaded.commit;
found.again = (
  await hub.uploadFile({ ...common, repo, file: { path: "copy.safetensors", content: new Blob([big]) } })
).commit.oid;

// a .gitattributes of this upload decides where its other files go
await hub.commit({
  ...common,
  repo,
  title: "With attributes",
  operations: [
    { operation: "addOrUpdate", path: ".gitattributes", content: new Blob(["*.large filter=lfs\n"]) },
    { operation: "addOrUpdate", path: "a.large", content: new Blob(["large"]) },
    { operation: "addOrUpdate", path: "not.bin", content: new Blob(["small"]) },
  ],
});

const listed = await all(hub.listFiles({ ...common, repo, recursive: true, expand: true }));
found.listFiles = listed
  .filter((file) => file.type === "file")
  .map((file) => [file.path, file.size, !!file.lfs, file.lastCommit.title]);
found.listFolder = (await all(hub.listFiles({ ...common, repo, path: "sub" }))).map((file) => [file.path, file.type]);

const paths = ["small.txt", "model.safetensors", "sub", "nothing"];
found.pathsInfo = (await hub.pathsInfo({ ...common, repo, paths, expand: true })).map((info) => [
  info.path,
  info.type,
  info.size,
  info.lfs?.size ?? null,
  info.lastCommit.title,
]);
found.pathsInfoAtHead = (await hub.pathsInfo({ ...common, repo, paths: ["small.txt"], revision: "HEAD" })).length;

const large = await hub.downloadFile({ ...common, repo, path: "model.safetensors" });
found.downloadFile = [large.size, same(await large.arrayBuffer())];
found.downloadRange = Buffer.from(await large.slice(1_000_000, 1_000_010).arrayBuffer()).equals(
  Buffer.from(big.slice(1_000_000, 1_000_010)),
);
found.downloadText = await (await hub.downloadFile({ ...common, repo, path: "sub/deep/a.txt" })).text();
const empty = await hub.downloadFile({ ...common, repo, path: "empty.txt" });
found.downloadEmpty = [empty.size, await empty.text()];
found.downloadRaw = await (await hub.downloadFile({ ...common, repo, path: "model.safetensors", raw: true })).text();
found.downloadOld = await hub.downloadFile({
  ...common,
  repo,
  path: "copy.safetensors",
  revision: uploaded.commit.oid,
});
found.downloadInfo = (await hub.fileDownloadInfo({ ...common, repo, path: "small.txt" })).size;

found.fileExists = [
  await hub.fileExists({ ...common, repo, path: "small.txt" }),
  await hub.fileExists({ ...common, repo, path: "model.safetensors" }),
  await hub.fileExists({ ...common, repo, path: "nothing" }),
];
found.repoExists = [await hub.repoExists({ ...common, repo }), await hub.repoExists({ ...common, repo: "me/nothing" })];

const model = await hub.modelInfo({ ...common, name: repo, additionalFields: ["sha", "author", "tags", "filePaths"] });
found.modelInfo = [model.name, model.private, model.author, model.tags, model.sha, model.filePaths.length];

found.countCommits = await hub.countCommits({ ...common, repo });
found.listCommits = (await all(hub.listCommits({ ...common, repo, batchSize: 2 }))).map((commit) => commit.title);

const cacheDir = mkdtempSync(join(folder, "cache-"));
const snapshot = await hub.snapshotDownload({ ...common, repo, cacheDir });
found.snapshot = readdirSync(snapshot, { recursive: true })
  .filter((path) => statSync(join(snapshot, path)).isFile())
  .sort();
found.snapshotContent = same(readFileSync(join(snapshot, "model.safetensors")));

const proposed = await hub.uploadFile({
  ...common,
  repo,
  file: { path: "proposed.bin", content: new Blob(["proposed"]) },
  isPullRequest: true,
});
found.pullRequestUrl = proposed.pullRequestUrl;
found.ofPullRequest = await (
  await hub.downloadFile({ ...common, repo, path: "proposed.bin", revision: "refs/pr/1" })
).text();

await hub.createBranch({ ...common, repo, branch: "next" });
await hub.commit({
  ...common,
  repo,
  title: "On a branch",
  branch: "next",
  parentCommit: model.sha,
  operations: [
    { operation: "addOrUpdate", path: "new.txt", content: new Blob(["new"]) },
    { operation: "delete", path: "small.txt" },
  ],
});
found.branch = (await all(hub.listFiles({ ...common, repo, revision: "next" }))).map((file) => file.path);
found.stale = await refusal(
  hub.commit({ ...common, repo, title: "Stale", branch: "next", parentCommit: model.sha, operations: [] }),
);
found.branchExists = await refusal(hub.createBranch({ ...common, repo, branch: "next" }));
await hub.createBranch({ ...common, repo, branch: "next", overwrite: true });
found.branchKept = await hub.countCommits({ ...common, repo, revision: "next" });
await hub.createBranch({ ...common, repo, branch: "next", overwrite: true, revision: "main" });
found.branchMoved = await hub.countCommits({ ...common, repo, revision: "next" });
await hub.createBranch({ ...common, repo, branch: "empty", empty: true });
found.emptyBranch = [
  await hub.countCommits({ ...common, repo, revision: "empty" }),
  (await all(hub.listFiles({ ...common, repo, revision: "empty" }))).length,
];
await hub.deleteBranch({ ...common, repo, branch: "next" });
found.afterBranch = await refusal(all(hub.listFiles({ ...common, repo, revision: "next" })));

await hub.deleteFiles({ ...common, repo, paths: ["small.txt", "sub/deep/a.txt"] });
found.afterDelete = (await all(hub.listFiles({ ...common, repo, recursive: true })))
  .filter((file) => file.type === "file")
  .map((file) => file.path);

for (const name of ["datasets/me/data", "spaces/me/demo"]) await hub.createRepo({ ...common, repo: name, private: true });
found.datasetInfo = (await hub.datasetInfo({ ...common, name: "me/data" })).private;
found.spaceInfo = (await hub.spaceInfo({ ...common, name: "me/demo" })).sdk;
found.anonymous = await refusal(all(hub.listFiles({ hubUrl, repo: "datasets/me/data" })));

await hub.createRepo({ ...common, repo: "me/second" });
found.listModels = (await all(hub.listModels({ ...common, search: { owner: "me" }, sort: "createdAt" })))
  .map((entry) => entry.name)
  .sort();
found.listModelsLimit = (await all(hub.listModels({ ...common, search: { query: "second" }, limit: 1 }))).map(
  (entry) => [entry.name, entry.likes, entry.updatedAt instanceof Date],
);
found.listDatasets = (await all(hub.listDatasets({ ...common }))).map((entry) => entry.name);
found.listSpaces = (await all(hub.listSpaces({ ...common }))).map((entry) => [entry.name, entry.sdk]);

for (const name of [repo, "me/second", "datasets/me/data", "spaces/me/demo"])
  await hub.deleteRepo({ ...common, repo: name });
found.deleted = await refusal(hub.checkRepoAccess({ ...common, repo }));

console.log(JSON.stringify(found));
