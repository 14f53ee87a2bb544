/* A card for each score: its distribution, and bounds to move. */

function scoresView(run, runIndex) {
  const sieve = sieveOf(runIndex);
  const specs = data.specs.runs[runIndex];
  const parts = [h("h1", { text: "Scores and bounds" })];
  if (!run.scores.length && !run.classes.length) {
    parts.push(note("This run has no scores: none of its stages decides by a number, and no column that was looked at holds one."));
    return parts;
  }
  if (sieve) parts.push(h("p", { class: "soft", text: run.sample.how }), summary(run, sieve));
  else if (run.scores.length) parts.push(note("There is no sample of the input here, so that bounds cannot be moved; the distributions are as in the run."));
  const cards = run.scores.map((score) => card(run, runIndex, score, sieve, specs.scores[score.column]));
  const grid = h("div", { class: "cards" }, cards);
  parts.push(h("div", { class: "row spread" }, legend([["before", "came in"], ["kept", "kept by the run"], ["shade", "outside the bounds"]]), logSwitch(run)), grid);
  if (run.classes.length) {
    const shown = run.classes.map((view) =>
      h("article", { class: "card" }, h("h3", {}, h("code", { text: view.column })),
        view.others ? h("p", { class: "soft", text: `The most frequent; ${plural(view.others, "other value")} not shown.` }) : null,
        plot(specs.classes[view.column], 22 * view.values.length + 30),
        h("p", { class: "soft small", text: ofWhat(view, run) })),
    );
    parts.push(section("Classes", h("div", { class: "cards" }, shown)));
  }
  return parts;
}

const ofWhat = (view, run) => (view.whole ? "Of all documents." : `Of ${run.sample ? plural(run.sample.drawn, "sampled document") : "the sample"}.`);

function logSwitch(run) {
  if (!run.scores.length) return null;
  const box = h("input", { type: "checkbox", id: `log-${run.name}` });
  box.addEventListener("change", () => redraw((entry) => entry.placed && logCounts(entry.spec, box.checked)));
  return h("label", { class: "soft" }, box, " counts on a logarithmic axis");
}

/** The bar on top: what all bounds keep together. */
function summary(run, sieve) {
  const kept = h("output", { class: "joint", id: "joint" });
  const first = h("span", { class: "soft" });
  const bar = h("span", { class: "meter" }, h("span", { class: "part kept" }));
  const reset = h("button", { type: "button", class: "plain", text: "Reset all", on: { click: () => sieve.reset() } });
  const see = h("a", { class: "button", href: "#documents/changed" });
  const told = h("span", { class: "soft", role: "status" });
  const recipe = h("button", { type: "button", class: "strong", text: "Copy as recipe", on: { click: () => showRecipe(run, sieve) } });
  const show = () => {
    const moved = sieve.movedCount;
    const share = sieve.rows ? sieve.kept / sieve.rows : 0;
    kept.textContent = `${count(sieve.kept)} of ${count(sieve.rows)}`;
    const all = sieve.of > sieve.rows ? `; about ${count(Number((share * sieve.of).toPrecision(3)))} of ${count(sieve.of)}` : "";
    first.textContent = `(${percent(share)}, 95 %: ${interval(sieve.kept, sieve.rows)}${all})` + (moved ? `, ${count(sieve.keptAtFirst)} with the bounds of the run` : "");
    bar.firstChild.style.width = `${100 * share}%`;
    reset.disabled = moved === 0;
    let changed = 0;
    if (moved) for (let row = 0; row < sieve.rows; row++) changed += sieve.changesRow(row) ? 1 : 0;
    const texts = changed ? run.sample.documents.filter((doc) => sieve.changesRow(doc.row)).length : 0;
    see.hidden = texts === 0;
    see.textContent = `See what changes (${count(texts)})`;
    told.textContent = changed ? `${plural(changed, "document")} ${changed === 1 ? "changes" : "change"} sides${texts ? "" : "; none of them is here with its text"}` : "";
  };
  sieve.watchers.add(show);
  show();
  return h("div", { class: "summary" }, h("p", {}, "All bounds together keep ", kept, " ", first), bar, h("div", { class: "row" }, recipe, reset, see, told));
}

function card(run, runIndex, score, sieve, spec) {
  const i = sieve ? sieve.index(score.column) : -1;
  const where = score.stage >= 0 ? `stage ${score.stage + 1}` : "a column of the documents";
  const head = h("header", {}, h("h3", { text: score.filter ? score.label : score.column }),
    h("p", { class: "soft small" }, h("code", { text: score.column }), ` · ${where}${score.invert ? " · inverted" : ""}`));
  const missing = score.missing ? `; ${plural(score.missing, "document")} without it` : "";
  const about = h("p", { class: "soft small", text: ofWhat(score, run) + missing });
  const box = h("article", { class: "card", id: `score-${score.column}`, data: { column: score.column } }, head);
  if (score.edges.length < 2 || !spec) {
    box.append(h("p", { class: "soft", text: "No document has this number." }));
    return box;
  }
  const bounds = h("p", { class: "bounds" });
  const frame = h("div", { class: "frame" });
  const cuts = h("div", { class: "cuts", "aria-hidden": "true" });
  frame.append(plot(structuredClone(spec), 140, (_, view) => place(frame, view)), cuts);
  if (i < 0) {
    bounds.textContent = boundText(score, score.low, score.high);
    shade(cuts, score, new Axis(score), score.low, score.high);
    box.append(bounds, frame, about);
    return box;
  }
  const control = sliders(score, sieve, i, frame);
  const says = h("table", { class: "says" }, h("caption", { class: "unseen", text: `What the bounds of ${score.label} keep` }),
    h("tr", {}, ["", "share", "95 %", "documents"].map((text, n) => h("th", { scope: n ? "col" : null, class: n ? "n" : "", text }))),
    ["kept alone", "kept with all others", "only this drops"].map((text) => h("tr", {}, h("th", { scope: "row", text }), h("td", { class: "n" }), h("td", { class: "n soft" }), h("td", { class: "n soft" }))));
  const back = h("button", { type: "button", class: "quiet small", text: "Reset", on: { click: () => sieve.reset(i) } });
  const look = h("a", { class: "small", href: `#documents/score=${encodeURIComponent(score.column)}`, text: "Look at documents" });
  const show = (changed = null) => {
    numbers(says, sieve, i);
    if (changed !== null && changed !== i) return;
    bounds.textContent = boundText(score, sieve.low[i], sieve.high[i]);
    const moved = sieve.moved(i);
    box.classList.toggle("moved", moved);
    back.hidden = !moved;
    shade(cuts, score, control.axis, sieve.low[i], sieve.high[i]);
    control.show();
  };
  // A card out of sight is brought up to date when it comes back into it.
  let seen = true;
  let stale = false;
  new IntersectionObserver((entries) => {
    seen = entries[entries.length - 1].isIntersecting;
    if (seen && stale) {
      stale = false;
      show();
    }
  }).observe(box);
  sieve.watchers.add((changed) => {
    if (seen || changed === i) show(changed);
    else stale = true;
  });
  show();
  box.append(h("div", { class: "row spread" }, bounds, back), frame, control.fields, says, h("div", { class: "row spread" }, about, look));
  return box;
}

/** Where the plot's own area lies in its frame, so that shades and thumbs stand at their numbers. */
function place(frame, view) {
  const [x, y] = view.origin();
  const padding = view.padding();
  frame.style.setProperty("--x0", `${x + padding.left}px`);
  frame.style.setProperty("--y0", `${y + padding.top}px`);
  frame.style.setProperty("--w", `${view.width()}px`);
  frame.style.setProperty("--h", `${view.height()}px`);
}

function shade(cuts, score, axis, low, high) {
  const a = low === null ? 0 : axis.place(low);
  const b = high === null ? 1 : axis.place(high);
  const parts = score.invert ? [[a, b]] : [[0, a], [b, 1]];
  const rules = [low === null ? null : a, high === null ? null : b].filter((at) => at !== null);
  cuts.replaceChildren(
    ...parts.filter(([from, to]) => to > from).map(([from, to]) => h("div", { class: "cut", style: { left: `${100 * from}%`, width: `${100 * (to - from)}%` } })),
    ...rules.map((at) => h("div", { class: "rule", style: { left: `${100 * at}%` } })),
  );
}

function numbers(says, sieve, i) {
  const rows = sieve.rows;
  const parts = [sieve.alone[i], sieve.kept, sieve.only[i]];
  parts.forEach((part, n) => {
    const cells = says.rows[n + 1].cells;
    cells[1].textContent = percent(rows ? part / rows : NaN);
    cells[2].textContent = interval(part, rows).replace(" %", "");
    cells[3].textContent = count(part);
  });
}

/** Two thumbs under the plot, and two fields with the numbers. */
function sliders(score, sieve, i, frame) {
  const axis = new Axis(score);
  const name = score.filter ? score.label : score.column;
  const make = (side) => {
    const words = side === "low" ? "Lower" : "Upper";
    const range = h("input", { type: "range", min: "0", max: "1000", step: "1", class: side, "aria-label": `${words} bound of ${name}` });
    const field = h("input", { type: "number", step: "any", "aria-label": `${words} bound of ${name} as a number`, placeholder: "none" });
    const set = (value) => (side === "low" ? sieve.move(i, value, sieve.high[i]) : sieve.move(i, sieve.low[i], value));
    const now = () => (side === "low" ? sieve.low[i] : sieve.high[i]);
    const first = score[side];
    /** At the end of its way a thumb means what was there: a bound beyond it, or none. */
    const chosen = (at) => {
      const end = side === "low" ? at <= 0 : at >= 1;
      if (!end) return axis.value(at);
      if (first === null || axis.place(first) === (side === "low" ? 0 : 1)) return first;
      return axis.end(side);
    };
    range.addEventListener("input", () => set(chosen(Number(range.value) / 1000)));
    range.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
      if (!steps) return;
      event.preventDefault();
      const value = axis.step(now() ?? axis.end(side), steps);
      const at = axis.place(value);
      set(at <= 0 || at >= 1 ? chosen(at) : value);
    });
    field.addEventListener("change", () => {
      const value = field.value.trim() === "" ? null : Number(field.value);
      if (value === null || Number.isFinite(value)) set(value);
      else field.value = now() === null ? "" : String(now());
    });
    const show = () => {
      const value = now();
      range.value = String(Math.round(1000 * (value === null ? (side === "low" ? 0 : 1) : axis.place(value))));
      range.setAttribute("aria-valuetext", value === null ? "no bound" : number(value));
      if (document.activeElement !== field) field.value = value === null ? "" : String(value); // else it is being typed
    };
    const setting = side === "low" ? score.low_setting : score.high_setting;
    const label = h("label", {}, h("span", { class: "soft small" }, side === "low" ? "from" : "to", setting ? h("code", { text: ` ${setting}` }) : null), field);
    return { range, label, show };
  };
  const low = make("low");
  const high = make("high");
  frame.append(h("div", { class: "track" }, low.range, high.range));
  const showBoth = () => {
    low.show();
    high.show();
    // Where both thumbs are at the right end, the lower one is on top: else neither could be moved.
    low.range.style.zIndex = Number(low.range.value) > 500 ? "3" : "1";
  };
  return { axis, fields: h("div", { class: "fields" }, low.label, high.label), show: showBoth };
}
