/* The form and the text. All computing is in worker.js. */

"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const element = (id) => document.getElementById(id);
  const form = element("form"), output = element("output"), status = element("status"), bar = element("progress");
  const writeButton = element("write"), stopButton = element("stop");
  const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  let worker = null, state = "idle", loadedWeights = "";
  let shownPrompt = "", unread = "", note = "", isGreedy = false, seed = 0; // of the text that is being written

  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
  const weights = () => form.elements.weights?.value ?? Object.keys(facts.weights)[0];

  function setState(next) {
    state = next;
    const isBusy = next !== "idle";
    const from = isBusy ? writeButton : stopButton, to = isBusy ? stopButton : writeButton;
    const hasFocus = document.activeElement === from;
    to.disabled = false;
    if (hasFocus) to.focus();
    from.disabled = true;
    form.elements.weights?.toggleAttribute("disabled", isBusy);
    output.setAttribute("aria-busy", String(isBusy));
    output.classList.toggle("writing", next === "writing");
    if (next !== "loading") status.setAttribute("aria-live", "polite");
    bar.classList.toggle("shown", next === "loading");
  }

  function show(parts) {
    const isAtEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 8;
    output.replaceChildren(...parts.filter(([, text]) => text).map(([kind, text]) => {
      const span = document.createElement("span");
      span.className = kind;
      span.textContent = text;
      return span;
    }));
    if (isAtEnd) output.scrollTop = output.scrollHeight;
  }

  function fail(text, code = "") {
    show([["bad", text], ["code", code]]);
    output.scrollTop = 0;
    status.textContent = "";
    setState("idle");
  }

  function failed({ kind, message }) {
    const action = state === "loading" ? "loaded" : "run";
    if (kind !== "characters") discard();
    if (kind === "memory") {
      const size = facts.weights[weights()].size;
      const isSmallest = Object.values(facts.weights).every((other) => other.size >= size);
      const needed = Math.round((3.3 * size) / 1e6 + 330); // measured in Chromium 150
      fail(`The browser has too little memory for this model, which needs about ${needed} MB. Close `
        + `other tabs${isSmallest ? "" : ", choose the smaller weights"} or use a computer with more memory. (${message})`);
    } else if (kind === "network") {
      fail(`${message} The model was not loaded. Check the connection, then select Write again.`);
    } else if (kind === "integrity") {
      fail(`${message} Something between this browser and the server changed the file. Try another network.`);
    } else if (kind === "characters") {
      fail(message);
    } else {
      fail(`The model could not be ${action} in this browser: ${message}`);
    }
  }

  function discard() {
    worker?.terminate();
    worker = null;
    loadedWeights = "";
  }

  function start() {
    discard();
    const source = URL.createObjectURL(new Blob([element("worker").textContent], { type: "text/javascript" }));
    worker = new Worker(source, { type: "module" });
    worker.onerror = (event) => failed({ kind: "other", message: event.message || "module workers are not supported" });
    worker.onmessage = received;
    loadedWeights = weights();
    const { files, runtime, context } = facts;
    const base = new URL(".", document.baseURI).href;
    worker.postMessage({ load: { base, weights: loadedWeights, files, runtime, context } });
    setState("loading");
    status.textContent = "Loading";
    status.setAttribute("aria-live", "off"); // a screen reader would read out each number
    bar.removeAttribute("value");
  }

  function write() {
    const { prompt, tokens, temperature } = form.elements;
    isGreedy = Number(temperature.value) === 0;
    seed = form.elements.seed.value === "" ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(form.elements.seed.value);
    note = "";
    shownPrompt = prompt.value;
    show([["prompt", shownPrompt]]);
    output.parentElement.scrollIntoView({ block: "nearest" });
    for (const id of ["first", "speed", "count"]) element(id).textContent = "–";
    if (worker && loadedWeights === weights()) setState("writing");
    else start();
    worker.postMessage({
      write: { prompt: shownPrompt, tokens: Number(tokens.value), temperature: Number(temperature.value), seed },
    });
  }

  function received({ data }) {
    if (data.loading !== undefined) {
      bar.max = data.total;
      bar.value = data.loading;
      status.textContent = `Loading: ${megabytes(data.loading)} of ${megabytes(data.total)}`;
    } else if (data.starting) {
      bar.removeAttribute("value");
      status.textContent = "Starting the model";
    } else if (data.ready !== undefined) {
      element("loading").textContent = seconds(data.ready);
      setState("writing");
    } else if (data.reading) {
      ({ unread } = data.reading);
      if (data.reading.cut) {
        note = `Your text has ${data.reading.tokens} tokens. The model's context is ${facts.context}: it does not read the `
          + `first ${data.reading.cut}, shown in grey.`;
      }
      status.textContent = note || "Writing";
    } else if (data.text !== undefined) {
      const cut = shownPrompt.startsWith(unread) ? unread : "";
      show([["cut", cut], ["prompt", shownPrompt.slice(cut.length)], ["new", data.text]]);
    } else if (data.done) {
      done(data.done);
    } else if (data.failed) {
      failed(data.failed);
    }
  }

  function done({ tokens, first, rate, reason, hasSlid }) {
    if (tokens) {
      element("first").textContent = seconds(first);
      element("speed").textContent = rate ? `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s` : "–";
    }
    const count = element("count").textContent = `${tokens} ${tokens === 1 ? "token" : "tokens"}`;
    const ends = {
      stopped: `Stopped after ${count}.`,
      ended: `The model ended its text after ${count}.`,
      complete: `${count}.`,
    };
    const slid = hasSlid ? `The text is longer than the model's context of ${facts.context} tokens: it forgot the start.` : "";
    const repeat = isGreedy ? "Greedy: the same text each time." : `Seed ${seed} gives this text again.`;
    status.textContent = [ends[reason], note, slid, repeat].filter(Boolean).join(" ");
    setState("idle");
  }

  function showSettings() {
    const value = Number(form.elements.temperature.value);
    element("temperature-value").textContent = value === 0 ? "0, greedy" : value.toFixed(1);
    form.elements.seed.disabled = value === 0;
    if (state === "idle" && loadedWeights !== weights()) status.textContent = downloadText();
  }

  function downloadText() {
    const names = Object.keys(facts.files).filter((name) => !name.startsWith("onnx/") || name === weights());
    const size = [...facts.runtime, ...names.map((name) => facts.files[name])].reduce((sum, file) => sum + file.size, 0);
    return `The first time, Write loads ${megabytes(size)}, which the browser keeps.`;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (state === "idle" && !writeButton.disabled) write();
  });
  form.addEventListener("input", showSettings);
  form.elements.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  stopButton.addEventListener("click", () => {
    if (state === "writing") {
      worker.postMessage({ stop: true });
    } else if (state === "loading") {
      discard();
      setState("idle");
      status.textContent = `Loading was stopped. ${downloadText()}`;
    }
  });

  showSettings();
  writeButton.disabled = false;
  if (location.protocol === "file:") {
    const folder = decodeURI(location.pathname).replace(/\/[^/]*$/, "").replace(/^\/(?=[A-Za-z]:)/, "");
    fail("This page was opened as a file, and browsers do not let such a page read the files beside it. "
      + "Run this command to serve them over HTTP, and open http://localhost:8000/",
      `python3 -m http.server --directory ${/[^\w./:-]/.test(folder) ? `"${folder}"` : folder}`);
    writeButton.disabled = true;
  } else if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(SIMD))) {
    fail("This browser does not have WebAssembly with SIMD, which runs the model, or it is switched off (as in Lockdown Mode). "
      + "Use a current version of Chrome, Edge, Firefox or Safari.");
    writeButton.disabled = true;
  }
})();
