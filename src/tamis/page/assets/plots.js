/* Plots by Vega-Lite: drawn when they come into view, and again when the theme changes. */

const drawn = new Map();
const tip = h("div", { class: "tip", role: "tooltip", hidden: true });

/** The library stands behind this script, so that the page is there before it. */
const library = new Promise((done) => (document.readyState === "loading" ? addEventListener("DOMContentLoaded", done) : done()));

const dark = () => (state.theme === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : state.theme === "dark");

/** Shows what a mark stands for; whatever comes from the data is put in as text. */
function showTip(_handler, event, _item, value) {
  if (value === null || value === undefined || value === "") {
    tip.hidden = true;
    return;
  }
  const rows = typeof value === "object" ? Object.entries(value) : [["", value]];
  tip.replaceChildren(...rows.map(([name, text]) => h("div", {}, h("span", { class: "soft", text: name }), " ", String(text))));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 4))}px`;
  tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18}px`;
}

const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && drawn.has(entry.target)) {
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }
  },
  { rootMargin: "300px" },
);

/** An element in which a specification is drawn. `placed(view)` is told where, each time that this changes. */
function plot(spec, height, placed = null) {
  const element = h("div", { class: "plot", style: { "min-height": `${height}px` } });
  drawn.set(element, { spec, placed, view: null, turn: 0 });
  watcher.observe(element);
  return element;
}

let line = library;

/** Plots are drawn one after the other, and the browser may answer the reader in between. */
function draw(element) {
  const one = line.then(() => drawNow(element)).catch((error) => console.error(error)); // one that fails stops no other
  line = one.then(() => new Promise((done) => setTimeout(done)));
}

async function drawNow(element) {
  const entry = drawn.get(element);
  const turn = ++entry.turn;
  const spec = structuredClone(entry.spec);
  // The interpreter instead of compiled expressions: so the page needs no leave to make code of text.
  const options = { mode: "vega-lite", ast: true, actions: false, renderer: "svg", defaultStyle: false, tooltip: showTip, config: data.themes[dark() ? "dark" : "light"] };
  const target = h("div", { class: "drawing" });
  const old = entry.view;
  element.append(target);
  const result = await vegaEmbed(target, spec, options);
  if (turn !== entry.turn) {
    result.finalize();
    target.remove();
    return;
  }
  if (old) {
    old.finalize();
    old.target.remove();
  }
  entry.view = { view: result.view, finalize: () => result.finalize(), target };
  if (entry.placed) {
    const tell = () => entry.placed(element, result.view);
    result.view.addSignalListener("width", () => requestAnimationFrame(tell));
    tell();
  }
}

function redraw(change = null) {
  for (const [element, entry] of drawn) {
    if (change) change(entry);
    if (entry.view && element.isConnected) draw(element);
    else if (entry.view) {
      entry.view.finalize();
      entry.view.target.remove();
      entry.view = null;
      watcher.observe(element);
    }
  }
}

/** Counts on a logarithmic axis, so that few documents beside many can be seen; 0 stays 0. */
function logCounts(spec, on) {
  for (const layer of spec.layer) {
    const y = layer.encoding.y;
    if (on) {
      y.scale = { type: "symlog", constant: 1 };
      y.axis = { ...y.axis, values: [0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9] };
    } else {
      delete y.scale;
      delete y.axis.values;
    }
  }
}
