/* Runs the model with transformers.js, in a worker: the page stays responsive while it computes.

The page starts this as a worker from a blob, so the page's Content-Security-Policy also applies here.

Messages from the page: {load: {base, weights, files, runtime, context}}, {write: {prompt, tokens, temperature, seed}},
{stop: true}.
Messages to the page: {loading, total} in bytes, {starting: true}, {ready: milliseconds}, {reading: {...}}, {text, id} after
each token, {done: {...}}, {failed: {kind, message}}. */

"use strict";
let library, tokenizer, model, context, isStopped = false;

class Failure extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

function unreachable(url, error) {
  return error instanceof Failure ? error : new Failure("network", `${url} can't be loaded (${error.message}).`);
}

/* The body of the response of `url`, while `counted` gets the number of bytes of each part that arrives. */
async function request(url, options, counted) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Failure("network", `${url} can't be loaded: the server answered ${response.status}.`);
  return counting(response.body, counted);
}

function counting(body, counted) {
  const count = new TransformStream({
    transform(part, controller) {
      counted(part.byteLength);
      controller.enqueue(part);
    },
  });
  return body.pipeThrough(count);
}

/* As `request`, when somebody reads it: transformers.js also asks for files of which it needs the size alone. */
function requestWhenRead(url, options, counted) {
  let reader = null;
  const source = {
    async pull(controller) {
      try {
        reader ??= (await request(url, options, counted)).getReader();
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        throw unreachable(url, error);
      }
    },
    cancel: () => reader?.cancel(),
  };
  return new ReadableStream(source, { highWaterMark: 0 });
}

/* The large files that earlier visits kept, each by its address and checksum. The browser's own cache would miss some: those
that are too large for it, and those that a server sends to another address each time. `names` are the files of this version;
others are deleted. Does nothing where a page can't keep files. */
async function openCache(base, names) {
  const address = (name) => new URL(name, base).href;
  let store = null;
  try {
    store = await caches.open(`demo ${base}`);
    const current = new Set(names.map(address));
    for (const { url } of await store.keys()) if (!current.has(url)) await store.delete(url);
  } catch {}
  return {
    match: async (name) => (await store?.match(address(name)).catch(() => {})) ?? null,
    remove: async (name) => store?.delete(address(name)).catch(() => {}),
    put: async (name, response) => store?.put(address(name), response).catch(() => {}), // no space left, say
  };
}

/* A blob URL of a file from the CDN. The browser compares its checksum before anything of it is used. */
async function verified({ url, integrity, type }, cache, counted) {
  const name = nameOfRuntime({ url, integrity });
  const kept = await cache.match(name);
  const options = { mode: "cors", credentials: "omit", referrerPolicy: "no-referrer" };
  const body = kept ? counting(kept.body, counted) : requestWhenRead(url, options, counted);
  const received = URL.createObjectURL(await new Response(body, { headers: { "Content-Type": type } }).blob());
  try {
    const blob = await (await fetch(received, { integrity })).blob();
    if (!kept) await cache.put(name, new Response(blob));
    return URL.createObjectURL(blob);
  } catch {
    await cache.remove(name);
    throw new Failure("integrity", `${url} does not have the expected checksum. It was not used.`);
  } finally {
    URL.revokeObjectURL(received);
  }
}

const nameOfRuntime = ({ url, integrity }) => `${url}?integrity=${encodeURIComponent(integrity)}`;
const nameOfWeights = (name, { sha256 }) => `model/${name}?sha256=${sha256}`;

async function load({ base, weights, files, runtime, context: tokens }) {
  context = tokens;
  const begin = performance.now();
  const isWeights = (name) => name.startsWith("onnx/");
  const needed = Object.keys(files).filter((name) => !isWeights(name) || name === weights);
  const total = [...runtime, ...needed.map((name) => files[name])].reduce((sum, { size }) => sum + size, 0);
  let loaded = 0, shown = 0;
  const counted = (bytes) => {
    loaded += bytes;
    if (loaded - shown > total / 200 || loaded >= total) postMessage({ loading: (shown = loaded), total });
  };
  const cache = await openCache(base, [
    ...runtime.map(nameOfRuntime),
    ...Object.keys(files).filter(isWeights).map((name) => nameOfWeights(name, files[name])),
  ]);
  const [script, mjs, wasm] = await Promise.all(runtime.map((one) => verified(one, cache, counted)));
  library = await import(script);
  const { env } = library;
  env.allowLocalModels = true;
  env.allowRemoteModels = false;
  env.localModelPath = "/";
  env.useBrowserCache = false; // it would not notice that the model was published again
  env.useCustomCache = true;
  env.customCache = {
    async match(path) {
      const found = path === `/model/${weights}` && (await cache.match(nameOfWeights(weights, files[weights])));
      return found ? new Response(counting(found.body, counted), { headers: found.headers }) : undefined;
    },
    async put(path, response) {
      if (path === `/model/${weights}`) await cache.put(nameOfWeights(weights, files[weights]), response);
    },
  };
  env.useWasmCache = false;
  env.logLevel = 50;
  env.backends.onnx.wasm.wasmPaths = { mjs, wasm };
  env.backends.onnx.wasm.wasmBinary = await (await fetch(wasm)).arrayBuffer();
  env.backends.onnx.wasm.numThreads = 1; // threads need headers that a static page does not have
  env.fetch = async (path) => {
    const name = String(path).replace(/^\/*model\//, "");
    if (!files[name]) return new Response(null, { status: 404 }); // optional files that this model does not have
    const body = requestWhenRead(new URL(`model/${name}`, base), { cache: "no-cache" }, counted);
    return new Response(body, { headers: { "Content-Length": String(files[name].size) } });
  };
  tokenizer = await library.AutoTokenizer.from_pretrained("model");
  model = await library.AutoModelForCausalLM.from_pretrained("model", {
    dtype: weights.endsWith("_quantized.onnx") ? "q8" : "fp32",
    device: "wasm",
    progress_callback: ({ status, file }) => status === "done" && file === weights && postMessage({ starting: true }),
  });
  const { forward } = model;
  model.forward = async (...inputs) => {
    await nextTask(); // lets the message `stop` arrive between two tokens
    return forward.apply(model, inputs);
  };
  postMessage({ ready: performance.now() - begin });
}

/* Resolves after the messages that have arrived. setTimeout would wait for 4 ms. */
const channel = new MessageChannel();
function nextTask() {
  return new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });
}

function decode(ids) {
  return ids.length ? tokenizer.decode(ids, { skip_special_tokens: true }) : "";
}

/* What of `text` the vocabulary lacks: characters that it has no id for, or only the id for unknown ones. */
function lacking(text) {
  const isKnown = (part) => {
    try {
      const ids = tokenizer.encode(part);
      return ids.length > 0 && ids.every((id) => Number.isInteger(id) && id !== tokenizer.unk_token_id);
    } catch {
      return false;
    }
  };
  if (isKnown(text)) return [];
  const unknown = [...new Set(text)].filter((character) => !isKnown(character));
  const visible = unknown.filter((character) => character.trim() !== "");
  if (visible.length) return visible; // some vocabularies have spaces only before words
  return unknown.length ? unknown : [text.length > 40 ? `${text.slice(0, 40)}…` : text];
}

/* A function that takes the ids that follow `ids`, one by one, and returns the text of all of them so far. It decodes the last
ones together with those before: a character may have several tokens, and between two tokens some vocabularies have a space. */
function streamedText(ids) {
  let text = "", before = ids.slice(-8), added = [];
  return (id) => {
    added.push(id);
    const start = decode(before), whole = decode([...before, ...added]);
    const end = whole.startsWith(start) ? whole.slice(start.length) : decode(added);
    const complete = end.replace(/\uFFFD+$/, ""); // the next token completes the character
    if (added.length < 32 || complete !== end) return text + complete;
    text += end;
    [before, added] = [added.slice(-8), []];
    return text;
  };
}

async function write({ prompt, tokens, temperature, seed }) {
  isStopped = false;
  const begin = performance.now();
  const missing = prompt === "" ? [] : lacking(prompt);
  if (missing.length) {
    const shown = missing.slice(0, 10).map((one) => `“${JSON.stringify(one).slice(1, -1)}”`).join(", ");
    throw new Failure("characters", `The model's vocabulary does not have ${shown}${missing.length > 10 ? " and others" : ""}. `
      + "Nothing was written: leave these characters out.");
  }
  const ids = prompt === "" ? [] : tokenizer.encode(prompt);
  if (!ids.length) ids.push(tokenizer.bos_token_id ?? model.config.bos_token_id ?? 0);
  const room = Math.max(1, context - Math.min(tokens, Math.ceil(context / 2)));
  const cut = ids.length >= context ? ids.length - room : 0;
  postMessage({ reading: { tokens: ids.length, cut, unread: decode(ids.slice(0, cut)).replace(/\uFFFD+$/, "") } });
  library.random.seed(seed);
  const ends = new Set([model.generation_config?.eos_token_id ?? model.config.eos_token_id ?? []].flat());
  const continuation = streamedText(ids);
  const written = [];
  let first = 0, hasEnded = false;
  const stopping = new library.InterruptableStoppingCriteria();
  let window = ids.slice(cut);
  while (written.length < tokens && !hasEnded && !isStopped) {
    let isPrompt = true;
    const streamer = {
      put([[...added]]) {
        if (isPrompt) return void (isPrompt = false);
        first ||= performance.now();
        const id = Number(added[0]);
        if (ends.has(id)) return void (hasEnded = true);
        written.push(id);
        postMessage({ text: continuation(id), id });
      },
      end() {},
    };
    const input_ids = new library.Tensor("int64", BigInt64Array.from(window, BigInt), [1, window.length]);
    const sampling = temperature > 0 ? { do_sample: true, temperature } : { do_sample: false };
    interrupt = () => stopping.interrupt();
    await model.generate({
      input_ids,
      attention_mask: library.ones_like(input_ids),
      max_new_tokens: Math.min(tokens - written.length, context - window.length),
      stopping_criteria: stopping,
      streamer,
      ...sampling,
    });
    // the context is full: the older half is dropped
    window = [...ids, ...written].slice(-Math.max(1, Math.floor(context / 2)));
  }
  const end = performance.now();
  postMessage({
    done: {
      tokens: written.length,
      first: first - begin,
      rate: written.length > 1 ? (written.length - 1) / ((end - first) / 1000) : 0,
      reason: isStopped ? "stopped" : hasEnded ? "ended" : "complete",
      hasSlid: ids.length - cut + written.length > context,
    },
  });
}

// what browsers and ONNX Runtime say without memory; a number is a C++ exception that nobody caught
const MEMORY = /out of memory|bad_alloc|allocat|Aborted|memory access|^\d+$/i;
let interrupt = () => {};
let work = Promise.resolve();
onmessage = ({ data }) => {
  if (data.stop) {
    isStopped = true;
    interrupt();
    return;
  }
  work = work.then(async () => {
    try {
      if (data.load) await load(data.load);
      if (data.write && model) await write(data.write);
    } catch (error) {
      const message = String(error?.message ?? error);
      const isMemory = error instanceof RangeError || MEMORY.test(message);
      postMessage({ failed: { kind: error.kind ?? (isMemory ? "memory" : "other"), message } });
    }
  });
};
