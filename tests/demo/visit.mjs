// Opens demos in Chromium as a reader does, and prints what it saw as JSON: node visit.mjs SCENARIO JSON
import { chromium } from "playwright-core";

const [scenario, json] = process.argv.slice(2);
const given = JSON.parse(json);
const browser = await chromium.launch({
  executablePath: given.browser,
  args: [`--host-resolver-rules=MAP * 127.0.0.1:${given.internet}, EXCLUDE 127.0.0.1, EXCLUDE spaces.localhost`, `--ignore-certificate-errors-spki-list=${given.key}`],
});

/* A page, with what its worker says in `messages`, what it logs, and the shifts of its layout. */
async function open(url, { width = 1280, before = () => {}, context = null, ...others } = {}) {
  const owner = context ?? (await browser.newContext({ viewport: { width, height: 900 }, hasTouch: width < 600, ...others }));
  const page = await owner.newPage();
  page.logged = [];
  page.on("console", (message) => page.logged.push(message.text()));
  page.on("pageerror", (error) => page.logged.push(String(error)));
  await page.addInitScript(() => {
    window.messages = [];
    window.shift = 0;
    window.Worker = class extends Worker {
      constructor(...words) {
        super(...words);
        this.addEventListener("message", ({ data }) => window.messages.push(data));
      }
    };
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
      window.shift += entry.value;
      window.shifted = entry.sources.map(({ node }) => node?.outerHTML ?? node?.parentElement?.outerHTML);
    }))
      .observe({ type: "layout-shift", buffered: true });
  });
  await page.addInitScript(before);
  await page.goto(url);
  return page;
}

async function settle(page) {
  await page.waitForFunction(() => document.getElementById("stop").disabled, null, { timeout: 60000 });
}

/* Fills the form and selects Write; `settings` are values of its fields by name. */
async function write(page, settings, { wait = true } = {}) {
  await page.evaluate((values) => {
    window.messages = [];
    const { elements } = document.getElementById("form");
    for (const [name, value] of Object.entries(values)) {
      elements[name].value = value;
      elements[name].dispatchEvent(new Event("input", { bubbles: true }));
    }
  }, settings);
  await page.click("#write");
  if (!wait) return null;
  await settle(page);
  return read(page);
}

function read(page) {
  return page.evaluate(() => {
    const text = (selector) => document.querySelector(selector)?.textContent ?? "";
    return {
      ids: window.messages.filter((one) => one.id !== undefined).map((one) => one.id),
      streamed: window.messages.filter((one) => one.text !== undefined).map((one) => one.text),
      loading: window.messages.filter((one) => one.loading !== undefined).map((one) => [one.loading, one.total]),
      prompt: text("#output .prompt"), cut: text("#output .cut"), written: text("#output .new"),
      bad: text("#output .bad"), code: text("#output .code"), status: text("#status"),
      first: text("#first"), speed: text("#speed"), count: text("#count"), duration: text("#loading"),
      shift: window.shift, shifted: window.shifted, focused: document.activeElement.id, canWrite: !document.getElementById("write").disabled,
    };
  });
}

/* Sizes and colours of what is on the page. */
function look(page) {
  return page.evaluate(() => {
    const style = (one) => getComputedStyle(one), box = (one) => one.getBoundingClientRect();
    const visible = [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() && box(one).width > 0);
    const behind = (one) => {
      while (one.parentElement && /, 0\)$|transparent/.test(style(one).backgroundColor)) one = one.parentElement;
      return style(one).backgroundColor;
    };
    const hasText = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    return {
      width: document.documentElement.scrollWidth,
      cut: visible.filter((one) => box(one).right > innerWidth + 0.5).map((one) => one.outerHTML.slice(0, 80)),
      colours: visible.filter((one) => hasText(one) && !one.matches(":disabled, :disabled *, noscript"))
        .map((one) => [style(one).color, behind(one), one.textContent.slice(0, 30)]),
      small: visible.filter((one) => one.matches("button, input, select, textarea") && box(one).height < 40).map((one) => one.id),
      unlabelled: visible.filter((one) => one.matches("input, select, textarea, progress") && !one.labels?.length
        && !one.ariaLabel).map((one) => one.id),
      background: style(document.body).backgroundColor,
    };
  });
}

const scenarios = {
  async read() {
    const seen = {};
    const page = await open(given.demo);
    seen.opened = await read(page);
    seen.greedy = await write(page, { prompt: given.prompt, temperature: "0", tokens: "50" });
    const sampled = { prompt: given.prompt, temperature: "1", tokens: "20" };
    seen.sampled = [];
    for (const seed of ["1", "2", "1"]) seen.sampled.push((await write(page, { ...sampled, seed })).written);
    seen.random = [];
    for (const seed of ["", ""]) seen.random.push(await write(page, { ...sampled, seed }));
    seen.long = await write(page, { prompt: given.long, temperature: "0", tokens: "5" });
    seen.slid = await write(page, { prompt: given.prompt, temperature: "0", tokens: "100" });
    seen.empty = await write(page, { prompt: "", temperature: "0", tokens: "5" });
    if (given.weights) seen.quantized = await write(page, { prompt: given.prompt, temperature: "0", tokens: "5", weights: given.weights });
    seen.logged = [...page.logged];
    const send = () => fetch("https://elsewhere.example/", { method: "POST", body: "text" }).then(() => "sent", () => "refused");
    seen.outside = [await page.evaluate(send), await page.workers()[0].evaluate(send)];
    const again = await open(given.demo, { context: page.context() });
    seen.again = await write(again, { prompt: given.prompt, temperature: "0", tokens: "50" });

    const phone = await open(given.demo, { width: 390 });
    await phone.focus("#prompt");
    await phone.keyboard.press("Control+Enter");
    await settle(phone);
    seen.phone = await read(phone);
    for (const colorScheme of ["light", "dark"]) {
      for (const [name, one] of [["phone", phone], ["wide", page]]) {
        await one.emulateMedia({ colorScheme });
        seen[`${name}-${colorScheme}`] = await look(one);
        await one.screenshot({ path: `${given.folder}/${name}-${colorScheme}.png`, fullPage: true });
      }
    }
    seen.missing = await write(await open(given.missing), { tokens: "5" });
    const characters = await open(given.characters);
    seen.lacking = await write(characters, { prompt: "a\u2603b\u2603\u00e9", temperature: "0", tokens: "5" });
    seen.tab = await write(characters, { prompt: "a\tb", temperature: "0", tokens: "5" });
    seen.characters = await write(characters, { prompt: "\n", temperature: "0", tokens: "50" });
    await write(characters, { prompt: "\n", temperature: "1", tokens: "2000", seed: "" }, { wait: false });
    // in the page, at the first token: on a slow machine a click from here may come after the last
    seen.focusWhileWriting = await characters.evaluate(() => new Promise((resolve) => {
      const output = document.getElementById("output");
      const stop = () => {
        if (!output.querySelector(".new")) return;
        observer.disconnect();
        resolve(document.activeElement.id);
        document.getElementById("stop").click();
      };
      const observer = new MutationObserver(stop);
      observer.observe(output, { childList: true, subtree: true });
      stop();
    }));
    await settle(characters);
    seen.stopped = await read(characters);
    return seen;
  },
  async space() {
    const page = await open(given.space);
    return { url: page.url(), greedy: await write(page, { prompt: given.prompt, temperature: "0", tokens: "50" }), logged: page.logged };
  },
  async picture() {
    const page = await open(given.demo, { width: given.width, deviceScaleFactor: given.scale });
    await write(page, { temperature: "0.8", tokens: "60", seed: "1" });
    await page.evaluate(() => {
      document.activeElement.blur();
      document.getElementById("output").scrollTop = 0;
    });
    for (const colorScheme of given.themes) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: `${given.folder}/demo-${colorScheme}.png`, fullPage: true });
    }
    return read(page);
  },
  async broken() {
    const tampered = await open(given.demo);
    const file = await open(given.file);
    const hasty = await open(given.demo);
    await hasty.evaluate(() => ["write", "stop"].forEach((id) => document.getElementById(id).click()));
    const bare = await open(given.demo, { before: () => delete globalThis.WebAssembly });
    return {
      tampered: await write(tampered, { tokens: "5" }),
      hasty: await read(hasty),
      file: await read(file),
      bare: await read(bare),
    };
  },
};

try {
  process.stdout.write(JSON.stringify(await scenarios[scenario]()));
} finally {
  await browser.close();
}
