/* Views, addresses, keys, theme. */

const VIEWS = [["overview", "Overview"], ["scores", "Scores"], ["documents", "Documents"], ["compare", "Compare"], ["recipe", "Recipe"]]
  .filter(([name]) => name !== "compare" || page.runs.length === 2);
const KEYS = [["1 – " + VIEWS.length, "a view"], ["j, k or ↓, ↑", "next and previous document"], ["/", "search the documents"], ["← →", "move a bound that has the focus; with Page Up and Page Down by more"], ["?", "these keys"], ["Esc", "close, or back to the list"]];

const made = new Map();

/** The elements of a view of a run, made once: what was moved or typed stays as it was. */
function viewOf(name, run) {
  const key = name === "compare" ? name : `${name} ${run}`;
  if (!made.has(key)) {
    const build = { overview, scores: scoresView, compare: compareView, recipe: recipeView };
    const element = h("div", { class: `view ${name}` });
    if (name === "documents") {
      const documents = new Documents(page.runs[run], run);
      element.append(documents.element);
      element.documents = documents;
      documents.render();
      documents.show(null);
    } else element.append(...build[name](page.runs[run], run));
    made.set(key, element);
  }
  return made.get(key);
}

const documentsNow = () => viewOf("documents", state.run).documents;

function show(name) {
  const changed = state.view !== name || !byId("content").firstChild;
  const element = viewOf(name, state.run);
  state.view = name;
  if (byId("content").firstChild !== element) byId("content").replaceChildren(element);
  for (const link of document.querySelectorAll("#views a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = name;
  if (changed) {
    scrollTo(0, 0);
    dispatchEvent(new Event("resize")); // plots that were drawn at another width
  }
}

/** Show what the address asks for: #scores, #scores/COLUMN, #documents/score=COLUMN, #documents/changed, #doc=ID. */
function route() {
  const hash = location.hash.slice(1);
  const plain = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  if (hash === "content") {
    byId("content").focus();
    return;
  }
  if (hash.startsWith("doc=")) {
    const id = plain(hash.slice(4));
    const has = (run) => run.sample && run.sample.documents.some((doc) => doc.id === id);
    if (!has(currentRun())) {
      const other = page.runs.findIndex(has);
      if (other >= 0) chooseRun(other);
    }
    const documents = documentsNow();
    if (documents.stale) documents.render();
    show("documents");
    documents.show(id);
    return;
  }
  const [name, rest] = [hash.split("/")[0], hash.split("/").slice(1).join("/")];
  const view = VIEWS.some(([known]) => known === name) ? name : "overview";
  if (view === "documents") {
    const documents = documentsNow();
    documents.show(null);
    if (rest === "changed") documents.set({ stage: "", decision: "changed", query: "" });
    else if (rest) documents.set({ stage: plain(rest), decision: rest.startsWith("score=") ? "near" : "dropped", query: "" });
    else if (documents.stale) documents.set({});
  }
  show(view);
  if (view === "scores" && rest) {
    const card_ = document.getElementById(`score-${plain(rest)}`);
    if (card_) {
      card_.scrollIntoView({ block: "center" });
      card_.classList.add("sought");
      setTimeout(() => card_.classList.remove("sought"), 1500);
    }
  }
}

/** Go to an address now: the browser tells of it later, when another key may have been pressed. */
function goTo(hash) {
  location.hash = hash;
  route();
}

function chooseRun(index) {
  state.run = index;
  for (const button of document.querySelectorAll("#run-choice button")) button.setAttribute("aria-pressed", String(Number(button.dataset.run) === index));
}

// -- theme ---------------------------------------------------------------------------------------------------

/** What the reader chose is kept where the browser lets a page keep anything. */
function kept(value) {
  try {
    if (value === undefined) return localStorage.getItem("tamis-theme");
    localStorage.setItem("tamis-theme", value);
  } catch {
    /* a page that may keep nothing follows the system */
  }
  return null;
}

function setTheme(theme) {
  state.theme = theme;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").textContent = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" }[theme];
  redraw();
}

// -- keys ----------------------------------------------------------------------------------------------------

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = event.target;
  const typing = target.matches("input:not([type=range]):not([type=checkbox]), textarea, select");
  if (event.key === "Escape") {
    if (typing) target.blur();
    else if (location.hash.startsWith("#doc=")) goTo("#documents");
    return;
  }
  if (typing) return;
  const arrows = state.view === "documents" && !target.closest(".text, .scroller, input");
  const act = {
    "/": () => {
      if (state.view !== "documents") goTo("#documents");
      if (documentsNow().search) documentsNow().search.focus();
    },
    "?": () => byId("help").showModal(),
    j: () => next(1),
    k: () => next(-1),
    ...(arrows ? { ArrowDown: () => next(1), ArrowUp: () => next(-1) } : {}),
  }[event.key];
  const digit = Number(event.key);
  if (act) act();
  else if (digit >= 1 && digit <= VIEWS.length && event.key.length === 1) goTo(`#${VIEWS[digit - 1][0]}`);
  else return;
  event.preventDefault();
}

function next(by) {
  const documents = documentsNow();
  if (documents.all.length) documents.step(by);
}

// -- start ---------------------------------------------------------------------------------------------------

function start() {
  document.body.append(tip);
  byId("views").append(...VIEWS.map(([name, text], n) => h("li", {}, h("a", { href: `#${name}`, data: { view: name }, "aria-keyshortcuts": String(n + 1), text }))));
  byId("key-list").append(...KEYS.map(([key, text]) => h("div", {}, h("dt", {}, h("kbd", { text: key })), h("dd", { text }))));
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("recipe-copy").addEventListener("click", () => copy(byId("recipe-text").textContent, byId("recipe-text"), byId("recipe-said")));
  byId("theme").addEventListener("click", () => {
    const following = { auto: "light", light: "dark", dark: "auto" }[state.theme];
    kept(following);
    setTheme(following);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.theme === "auto" && redraw());
  if (page.runs.length === 2) {
    const choice = byId("run-choice");
    choice.hidden = false;
    choice.append(...page.runs.map((run, n) => h("button", { type: "button", "aria-pressed": String(n === 0), data: { run: n }, text: run.name, on: { click: () => {
      chooseRun(n);
      if (location.hash.startsWith("#doc=")) route();
      else show(state.view === "compare" ? "overview" : state.view);
      if (state.view === "documents") documentsNow().set({});
    } } })));
  }
  if (page.live) {
    byId("live").hidden = false;
    byId("live").textContent = `live: loads itself again every ${page.refresh} s`;
  }
  byId("footer").append(h("p", { class: "soft small", text: `Made ${page.made.replace("T", " ").replace("Z", " UTC")} by Tamis ${page.version}. This file asks nothing of the network. Plots: Vega-Lite (BSD 3-Clause).` }));
  setTheme(["light", "dark"].includes(kept()) ? kept() : "auto");
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", route);
  route();
}

start();
