// Runs exported models in transformers.js, without a network.
//
// Reads {models: folder, cases: [{name, prompt, tokens, texts, dtypes}]} as JSON from standard input, and prints for each case
// {ids: of the texts, decoded: of these, generated: {dtype: [the tokens' ids, the text of the pipeline]}}.
import { readFileSync } from "node:fs";
import { AutoTokenizer, env, pipeline } from "@huggingface/transformers";

const { models, cases } = JSON.parse(readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = models;
const answers = [];
for (const { name, prompt, tokens, texts, dtypes } of cases) {
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  const ids = texts.map((text) => tokenizer.encode(text));
  const generated = {};
  for (const dtype of dtypes) {
    const generator = await pipeline("text-generation", name, { dtype });
    const options = { do_sample: false, max_new_tokens: tokens, min_new_tokens: tokens };
    const output = await generator.model.generate({ ...tokenizer(prompt), ...options });
    const [answer] = await generator(prompt, { ...options, return_full_text: false });
    generated[dtype] = [output.tolist()[0].map(Number), answer.generated_text];
    await generator.dispose();
  }
  answers.push({ ids, decoded: ids.map((one) => tokenizer.decode(one)), generated });
}
console.log(JSON.stringify(answers));
