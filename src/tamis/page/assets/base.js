/* What every view uses: the data, elements, numbers as text. */

const data = JSON.parse(document.getElementById("data").textContent);
const page = data.page;
const state = { view: "overview", run: 0, theme: "auto" };

/** An element. `props`: class, text, data (an object), on (event handlers), and attributes; children that are text become text. */
function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, run] of Object.entries(value)) element.addEventListener(event, run);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const byId = (id) => document.getElementById(id);
const currentRun = () => page.runs[state.run];

// -- numbers -------------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (n) => (n === null || n === undefined ? "–" : whole.format(n));
const percent = (share) => {
  if (!Number.isFinite(share)) return "–";
  const value = 100 * share;
  if (value !== 0 && value < 0.05) return "< 0.1 %";
  if (value !== 100 && value > 99.95) return "> 99.9 %";
  return `${value.toFixed(1)} %`;
};
const points = (share) => `${share > 0 ? "+" : share < 0 ? "−" : ""}${Math.abs(100 * share).toFixed(1)}`;

/** A score as people write it: six digits at most, thousands apart. */
function number(value) {
  if (value === null || value === undefined) return "none";
  if (Number.isNaN(value)) return "none";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return whole.format(value).replace("-", "−");
  const short = Number(value.toPrecision(6));
  return String(short).replace("-", "−");
}

function bytes(n) {
  let value = n;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000) return `${unit === "B" ? value : value.toFixed(value < 10 ? 2 : 1)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} TB`;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** Wilson's interval for a share, at 95 %. */
function wilson(part, all) {
  if (!all) return [0, 1];
  const z = 1.959963984540054;
  const share = part / all;
  const middle = (share + (z * z) / (2 * all)) / (1 + (z * z) / all);
  const half = (z / (1 + (z * z) / all)) * Math.sqrt((share * (1 - share)) / all + (z * z) / (4 * all * all));
  return [part === 0 ? 0 : Math.max(middle - half, 0), part === all ? 1 : Math.min(middle + half, 1)];
}

const interval = (part, all) => {
  const [low, high] = wilson(part, all);
  return `${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)} %`;
};

const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// -- tables --------------------------------------------------------------------------------------------------

/** A table that scrolls in itself. `head`: [text, "n" for numbers or ""]; `rows`: lists of texts or elements. */
function table(caption, head, rows, extra = "") {
  return h(
    "div",
    { class: "scroller", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      { class: extra },
      h("caption", { class: "unseen", text: caption }),
      h("thead", {}, h("tr", {}, head.map(([text, kind]) => h("th", { scope: "col", class: kind, text })))),
      h(
        "tbody",
        {},
        rows.map((row) =>
          row instanceof Element
            ? row
            : h("tr", {}, row.map((cell, i) => h(i ? "td" : "th", { class: head[i][1], scope: i ? null : "row" }, cell))),
        ),
      ),
    ),
  );
}

/** A bar of one or two parts, each a share of the whole width. */
function meter(first, second = 0) {
  return h(
    "span",
    { class: "meter", "aria-hidden": "true" },
    h("span", { class: "part kept", style: { width: `${(100 * first).toFixed(3)}%` } }),
    second > 0 ? h("span", { class: "part dropped", style: { width: `max(2px, ${(100 * second).toFixed(3)}%)` } }) : null,
  );
}

function section(title, ...content) {
  return h("section", {}, h("h2", { text: title }), ...content);
}

const note = (text) => h("p", { class: "note", text });

/** Copy a text; where the browser does not let a page do so, the text is selected for the reader to copy. */
async function copy(text, shown, said) {
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "Copied.";
  } catch {
    const range = document.createRange();
    range.selectNodeContents(shown);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    said.textContent = document.execCommand("copy") ? "Copied." : "Selected: press Ctrl+C to copy.";
  }
}
