/* Documents of the sample to look at: a list to choose from, and one of them with what the stages saw in it. */

const KINDS = { repeated: "repeated", personal: "personal data", matched: "matched", changed: "changed", found: "search" };
const NEAR = 24; // documents on each side that count as close to a bound

class Documents {
  constructor(run, runIndex) {
    this.run = run;
    this.runIndex = runIndex;
    this.sieve = sieveOf(runIndex);
    this.all = run.sample ? run.sample.documents : [];
    this.byId = new Map(this.all.map((doc) => [doc.id, doc]));
    this.stage = "";
    this.decision = "all";
    this.query = "";
    this.open = null;
    this.shown = [];
    this.off = new Set();
    this.element = this.build();
    if (this.sieve) this.sieve.watchers.add(() => (this.stale = true));
  }

  // -- what is chosen ----------------------------------------------------------------------------------------

  get score() {
    return this.stage.startsWith("score=") ? this.sieve.index(this.stage.slice(6)) : -1;
  }

  keptBy(doc) {
    const i = this.score;
    if (i >= 0) return this.sieve.failing[i][doc.row] === 0;
    if (this.stage.startsWith("stage=")) return this.sieve.decided[doc.row] !== Number(this.stage.slice(6));
    return this.sieve.keepsRow(doc.row);
  }

  /** Documents close to a bound of the chosen score: the nearest on each side of it. */
  near(docs) {
    const i = this.score;
    if (i < 0) return new Set();
    const axis = new Axis(this.sieve.scores[i]);
    const found = new Set();
    for (const [bound, side] of [[this.sieve.low[i], -1], [this.sieve.high[i], 1]]) {
      // A bound with nothing beyond it is no place to look at.
      if (bound === null || !docs.some((doc) => side * (this.sieve.values[i][doc.row] - bound) > 0)) continue;
      const distance = (doc) => Math.abs(axis.to(this.sieve.values[i][doc.row]) - axis.to(bound));
      for (const kept of [true, false]) {
        docs.filter((doc) => this.keptBy(doc) === kept && !Number.isNaN(this.sieve.values[i][doc.row]))
          .sort((a, b) => distance(a) - distance(b)).slice(0, NEAR).forEach((doc) => found.add(doc));
      }
    }
    return found;
  }

  pattern() {
    return this.query ? new RegExp(this.query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/\s+/g, "\\s+"), "giu") : null;
  }

  choose() {
    const i = this.score;
    let docs = [...this.all];
    if (this.decision === "near") {
      const near = this.near(docs);
      docs = docs.filter((doc) => near.has(doc));
    } else if (this.decision === "changed") docs = docs.filter((doc) => this.sieve.changesRow(doc.row));
    else if (this.decision !== "all") docs = docs.filter((doc) => this.keptBy(doc) === (this.decision === "kept"));
    const pattern = this.pattern();
    if (pattern) {
      docs = docs.filter((doc) => {
        pattern.lastIndex = 0;
        return pattern.test(doc.text) || this.query === doc.id || doc.id.includes(this.query) || doc.file.includes(this.query) || doc.reason.includes(this.query);
      });
    }
    if (i >= 0) {
      const value = (doc) => this.sieve.values[i][doc.row];
      docs.sort((a, b) => (Number.isNaN(value(a)) ? 1 : 0) - (Number.isNaN(value(b)) ? 1 : 0) || value(a) - value(b) || a.row - b.row);
    }
    return docs;
  }

  // -- the list ----------------------------------------------------------------------------------------------

  build() {
    if (!this.all.length) return h("div", {}, h("h1", { text: "Documents" }), note(this.run.sample ? "The sample holds no documents." : "There are no documents to look at: the input of the run was not read when this page was made."));
    this.search = h("input", { type: "search", placeholder: "Search texts, ids, files, reasons", "aria-label": "Search the sample", "aria-keyshortcuts": "/", autocomplete: "off", spellcheck: "false" });
    let wait = 0;
    this.search.addEventListener("input", () => {
      clearTimeout(wait);
      wait = setTimeout(() => this.set({ query: this.search.value.trim() }), 60);
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      this.set({ query: this.search.value.trim() });
      if (this.shown.length) goTo(this.link(this.shown[0]));
    });
    const choices = [h("option", { value: "", text: "All stages together" }), ...this.stageChoices()];
    this.select = h("select", { "aria-label": "Stage", on: { change: () => this.set({ stage: this.select.value }) } }, choices);
    this.buttons = [["all", "All"], ["kept", "Kept"], ["dropped", "Dropped"], ["near", "At the bound"], ["changed", "Changed"]].map(([value, text]) =>
      h("button", { type: "button", "aria-pressed": "false", data: { value }, on: { click: () => this.set({ decision: value }) } }, text));
    this.said = h("p", { class: "soft small", role: "status" });
    this.list = h("ol", { class: "list", "aria-label": "Documents" });
    this.detail = h("article", { class: "detail", tabindex: "-1", "aria-label": "Document" });
    this.split = h("div", { class: "split" }, h("div", { class: "side" }, this.said, this.list), this.detail);
    return h("div", {}, h("h1", { text: "Documents" }), this.moves = h("p", { class: "note", hidden: true }),
      h("div", { class: "filters" }, this.search, this.select, h("div", { class: "choice", role: "group", "aria-label": "Decision" }, this.buttons)), this.split);
  }

  stageChoices() {
    const scored = this.sieve.scores.map((score, i) => ({ score, i }));
    const options = [];
    const stages = this.run.stages.filter((stage) => stage.kind !== "modifier");
    for (const stage of stages) {
      const own = scored.filter(({ score }) => score.stage === stage.index);
      for (const { score } of own) options.push(h("option", { value: `score=${score.column}`, text: `${stage.index + 1} ${score.filter ? score.label : `${stage.label}: ${score.column}`}` }));
      if (!own.length) options.push(h("option", { value: `stage=${stage.index}`, text: `${stage.index + 1} ${stage.label}` }));
    }
    const rest = scored.filter(({ score }) => !stages.some((stage) => stage.index === score.stage));
    for (const { score } of rest) options.push(h("option", { value: `score=${score.column}`, text: score.column }));
    return options;
  }

  set(changes) {
    Object.assign(this, changes);
    if (this.decision === "near" && this.score < 0) this.decision = "all";
    if (this.decision === "changed" && !this.sieve.movedCount) this.decision = "all";
    this.render();
  }

  render() {
    if (!this.all.length) return;
    this.stale = false;
    const i = this.score;
    const moved = this.sieve.movedCount;
    this.select.value = this.stage;
    if (document.activeElement !== this.search) this.search.value = this.query;
    for (const button of this.buttons) {
      const value = button.dataset.value;
      button.setAttribute("aria-pressed", String(value === this.decision));
      button.hidden = (value === "near" && i < 0) || (value === "changed" && !moved);
    }
    this.moves.hidden = !moved;
    this.moves.textContent = `${plural(moved, "bound")} moved: kept and dropped are meant with the bounds as they are now.`;
    this.shown = this.choose();
    this.said.textContent = `${plural(this.shown.length, "document")} of the ${count(this.all.length)} that are here with their text` + (i >= 0 ? ", by score" : "");
    const pattern = this.pattern();
    const items = [];
    let before = null;
    for (const doc of this.shown) {
      const kept = this.keptBy(doc);
      if (i >= 0 && before !== null && before !== kept) items.push(h("li", { class: "boundary", text: `${kept ? "kept" : "dropped"} from here on` }));
      before = kept;
      items.push(this.item(doc, kept, i, pattern));
    }
    this.list.replaceChildren(...items);
    if (!items.length) this.list.append(h("li", { class: "soft empty", text: "None. Choose another stage or decision, or search for something else." }));
    this.mark();
    const boundary = this.decision === "near" && this.open === null ? this.list.querySelector(".boundary") : null;
    if (boundary) requestAnimationFrame(() => (this.list.scrollTop = Math.max(0, boundary.offsetTop - this.list.offsetTop - 200)));
  }

  item(doc, kept, i, pattern) {
    const number_ = i >= 0 ? h("span", { class: "value", text: number(this.sieve.values[i][doc.row]) }) : null;
    return h("li", {}, h("a", { href: this.link(doc), data: { id: doc.id } },
      h("span", { class: "top" }, h("span", { class: `badge ${kept ? "kept" : "dropped"}`, text: kept ? "kept" : "dropped" }), number_, h("span", { class: "id", text: doc.id })),
      h("span", { class: "snippet", dir: "auto" }, this.snippet(doc, pattern)),
      !kept && i < 0 && doc.reason ? h("span", { class: "soft small why", text: doc.reason }) : null));
  }

  snippet(doc, pattern) {
    const flat = (text) => text.replace(/\s+/g, " ");
    if (pattern) {
      pattern.lastIndex = 0;
      const found = pattern.exec(doc.text);
      if (found) {
        const from = Math.max(0, found.index - 40);
        const end = found.index + found[0].length;
        return [from ? "…" : "", flat(doc.text.slice(from, found.index)), h("mark", { class: "found", text: flat(found[0]) }), flat(doc.text.slice(end, end + 90))];
      }
    }
    return flat(doc.text.slice(0, 160)).trim() || "(an empty text)";
  }

  link(doc) {
    return `#doc=${encodeURIComponent(doc.id)}`;
  }

  // -- one document ------------------------------------------------------------------------------------------

  show(id) {
    this.open = id;
    if (!this.all.length) return;
    const doc = this.byId.get(id);
    this.split.classList.toggle("opened", id !== null);
    if (id === null) this.detail.replaceChildren(h("p", { class: "soft", text: "Choose a document, or press j for the next one." }));
    else if (!doc) this.detail.replaceChildren(note(`There is no document ${id} among those that are here with their text.`), this.back());
    else {
      if (!this.shown.includes(doc)) this.set({ stage: "", decision: "all", query: "" });
      this.detail.replaceChildren(...this.describe(doc));
      this.detail.scrollTop = 0;
    }
    this.mark();
  }

  mark() {
    for (const link of this.list.querySelectorAll("a")) {
      const here = link.dataset.id === this.open;
      if (here) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      if (here) {
        const box = link.getBoundingClientRect();
        const frame = this.list.getBoundingClientRect();
        if (box.top < frame.top || box.bottom > frame.bottom) this.list.scrollTop += box.top - frame.top - frame.height / 3;
      }
    }
  }

  /** The next or previous document of the list. */
  step(by) {
    const at = this.shown.findIndex((doc) => doc.id === this.open);
    const to = at < 0 ? (by > 0 ? 0 : this.shown.length - 1) : at + by;
    if (this.shown[to]) goTo(this.link(this.shown[to]));
  }

  back() {
    return h("a", { class: "button back", href: "#documents", text: "Back to the list" });
  }

  describe(doc) {
    const first = this.sieve.decided[doc.row];
    const kept = this.sieve.keepsRow(doc.row);
    const label = first >= 0 && this.run.stages[first] ? this.run.stages[first].label : "";
    const now = this.sieve.changesRow(doc.row) ? h("span", { class: `badge ${kept ? "kept" : "dropped"}`, text: kept ? "kept with the moved bounds" : "dropped with the moved bounds" }) : null;
    const decision = h("p", { class: "decision" }, h("span", { class: `badge ${first < 0 ? "kept" : "dropped"}`, text: first < 0 ? "kept" : "dropped" }),
      first < 0 ? " by every stage" : ` by ${label}: ${doc.reason}`, doc.score ? h("span", { class: "soft", text: ` (score ${doc.score})` }) : "", " ", now);
    const place = [doc.file, doc.line === null ? null : `line ${doc.line}`].filter(Boolean).join(", ");
    const address = h("a", { class: "small", href: this.link(doc), text: "Link to this document" });
    return [
      this.back(),
      h("h2", { class: "id", text: doc.id }),
      h("p", { class: "soft small" }, h("span", { class: "path", text: place }), " ", address),
      decision,
      doc.values.length ? h("p", { class: "settings" }, doc.values.map(([name, value]) => h("span", {}, h("code", { text: name }), " ", value))) : null,
      ...this.text(doc),
      ...this.changes(doc),
      this.scores(doc),
    ].filter(Boolean);
  }

  text(doc) {
    const spans = doc.spans.map((span) => ({ ...span }));
    const pattern = this.pattern();
    if (pattern) for (const found of doc.text.matchAll(pattern)) if (found[0]) spans.push({ start: found.index, end: found.index + found[0].length, kind: "found", label: "search", stage: -1 });
    const kinds = [...new Set(spans.map((span) => span.kind))];
    const body = h("div", { class: "text", dir: "auto", lang: "", tabindex: "0", role: "region", "aria-label": "Text" });
    const fill = () => body.replaceChildren(...marked(doc.text, spans.filter((span) => !this.off.has(span.kind))));
    fill();
    const legend_ = kinds.length
      ? h("p", { class: "legend", role: "group", "aria-label": "Highlights" }, kinds.map((kind) => {
          const own = spans.filter((span) => span.kind === kind);
          const labels = [...new Set(own.map((span) => span.label))].slice(0, 6).join(", ");
          const button = h("button", { type: "button", class: `quiet small`, "aria-pressed": String(!this.off.has(kind)) },
            h("mark", { class: kind, text: KINDS[kind] }), ` ${count(own.length)}`, labels && labels !== KINDS[kind] ? h("span", { class: "soft", text: `: ${labels}` }) : "");
          button.addEventListener("click", () => {
            if (this.off.has(kind)) this.off.delete(kind);
            else this.off.add(kind);
            button.setAttribute("aria-pressed", String(!this.off.has(kind)));
            fill();
          });
          return button;
        }))
      : null;
    if (!doc.text) body.append(h("span", { class: "soft", text: "(an empty text)" }));
    return [legend_, body, doc.cut ? h("p", { class: "soft small", text: `${plural(doc.cut, "more character")} not shown.` }) : null];
  }

  changes(doc) {
    if (!doc.changes.length) return [];
    return [
      h("h3", { text: "Changed" }),
      ...doc.changes.map((change) =>
        h("div", { class: "change" },
          h("p", { class: "soft small" }, (this.run.stages[change.stage] || { label: "a stage" }).label, ", ", h("code", { text: change.column })),
          change.hunks.map((hunk) => h("p", { class: "hunk", dir: "auto" }, h("span", { class: "soft", text: hunk.before }),
            hunk.removed ? h("del", {}, visible(hunk.removed)) : null, hunk.added ? h("ins", {}, visible(hunk.added)) : null, h("span", { class: "soft", text: hunk.after }))),
          change.more ? h("p", { class: "soft small", text: `and ${plural(change.more, "more change")}` }) : null)),
    ];
  }

  scores(doc) {
    if (!this.sieve.scores.length) return null;
    const rows = this.sieve.scores.map((score, i) => {
      const kept = this.sieve.failing[i][doc.row] === 0;
      const decides = this.sieve.low[i] !== null || this.sieve.high[i] !== null || score.filter;
      return h("tr", { class: kept ? "" : "fails" }, h("th", { scope: "row" }, h("a", { href: `#scores/${encodeURIComponent(score.column)}`, text: score.filter ? score.label : score.column })),
        h("td", { class: "n", text: number(this.sieve.values[i][doc.row]) }), h("td", { text: boundText(score, this.sieve.low[i], this.sieve.high[i]) }),
        h("td", {}, decides ? h("span", { class: `badge ${kept ? "kept" : "dropped"}`, text: kept ? "kept" : "dropped" }) : ""));
    });
    return section("Scores", table(`Scores of ${doc.id}`, [["Score", ""], ["value", "n"], ["bounds", ""], ["", ""]], rows));
  }
}

/** A text in pieces, those within spans marked by what they are; spans may overlap. */
function marked(text, spans) {
  const cuts = new Set([0, text.length]);
  for (const span of spans) {
    cuts.add(Math.min(span.start, text.length));
    cuts.add(Math.min(span.end, text.length));
  }
  const places = [...cuts].sort((a, b) => a - b);
  const opening = [...spans].sort((a, b) => a.start - b.start);
  const pieces = [];
  let open = [];
  let next = 0;
  for (let k = 0; k + 1 < places.length; k++) {
    const [from, to] = [places[k], places[k + 1]];
    while (next < opening.length && opening[next].start <= from) open.push(opening[next++]);
    open = open.filter((span) => span.end > from);
    const piece = text.slice(from, to);
    if (!open.length) pieces.push(document.createTextNode(piece));
    else pieces.push(h("mark", { class: [...new Set(open.map((span) => span.kind))].join(" "), title: [...new Set(open.map((span) => span.label))].join(", "), text: piece }));
  }
  return pieces;
}

/** A changed part in which what cannot be seen is named. */
function visible(text) {
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u2069\ufeff\ufffd]/u;
  const pieces = [];
  let plain = "";
  for (const letter of text) {
    if (letter === "\n") plain += "↵\n";
    else if (letter === "\t") plain += "⇥\t";
    else if (letter === " " && text.trim() === "") plain += "␣";
    else if (hidden.test(letter)) {
      if (plain) pieces.push(plain);
      plain = "";
      pieces.push(h("span", { class: "code", text: `U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}` }));
    } else plain += letter;
  }
  return plain ? [...pieces, plain] : pieces;
}
