// What node-llama-cpp makes of texts: llama_greedy.mjs MODEL TOKENS, and a JSON list of texts on stdin, prints the ids of each, the
// text of these ids, and the most likely continuation of the first.
import { readFileSync } from "node:fs";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [modelPath, count] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const context = await model.createContext({ contextSize: model.trainContextSize, threads: 1 });
const sequence = context.getSequence();
const ids = JSON.parse(readFileSync(0, "utf8")).map((text) => model.tokenize(text));
const following = [];
for await (const token of sequence.evaluate(ids[0], { temperature: 0 })) {
  following.push(token);
  if (following.length === Number(count)) break;
}
const texts = ids.map((one) => model.detokenize(one));
console.log(JSON.stringify({ ids, texts, following, text: model.detokenize(following) }));
await llama.dispose();
