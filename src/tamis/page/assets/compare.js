/* Two runs beside each other. */

function compareView() {
  const [a, b] = page.runs;
  const parts = [h("h1", { text: "Two runs" })];
  const facts = [["read", "records"], ["kept", "kept"], ["dropped", "dropped"], ["set aside", "quarantined"]].map(([name, key]) => [name, count(a.counts[key]), count(b.counts[key]), difference(b.counts[key] - a.counts[key])]);
  facts.push(["kept share", percent(a.counts.kept / (a.counts.records || 1)), percent(b.counts.kept / (b.counts.records || 1)), `${points(b.counts.kept / (b.counts.records || 1) - a.counts.kept / (a.counts.records || 1))} points`]);
  facts.push(["bytes out", bytes(a.counts.bytes_out), bytes(b.counts.bytes_out), ""]);
  const head = [["", ""], [a.name, "n"], [b.name, "n"], ["difference", "n"]];
  parts.push(table("Counts of both runs", head, facts));
  parts.push(section("Stage by stage", h("p", { class: "soft", text: "Documents that each stage dropped, and their share of all that were read." }), funnels(a, b)));
  const d = page.differences;
  if (d) parts.push(section("Decided differently", ...decided(d, a, b)));
  if (Object.keys(data.specs.compare).length) parts.push(section("What they kept", ...distributions(a, b)));
  return parts;
}

/** The distributions that differ, and behind a fold those that do not. */
function distributions(a, b) {
  const [same, other] = [[], []];
  for (const [column, spec] of Object.entries(data.specs.compare)) {
    const [first, second] = [a, b].map((run) => run.scores.find((score) => score.column === column));
    const equal = ["after", "edges", "low", "high"].every((key) => JSON.stringify(first[key]) === JSON.stringify(second[key]));
    (equal ? same : other).push(h("article", { class: "card" }, h("h3", {}, h("code", { text: column })), plot(spec, 140), boundsOfBoth(first, second)));
  }
  return [
    h("p", { class: "soft", text: "The shape of each distribution among the kept documents; areas are equal." }),
    legend([["first", a.name], ["second", `${b.name} (dashed)`]]),
    other.length ? h("div", { class: "cards" }, other) : h("p", { text: "No distribution differs." }),
    same.length ? h("details", {}, h("summary", { text: `${plural(same.length, "distribution")} that ${same.length === 1 ? "is" : "are"} the same in both` }), h("div", { class: "cards" }, same)) : null,
  ].filter(Boolean);
}

const difference = (n) => (n === 0 ? "–" : `${n > 0 ? "+" : "−"}${count(Math.abs(n))}`);

function boundsOfBoth(first, second) {
  const [one, two] = [boundText(first, first.low, first.high), boundText(second, second.low, second.high)];
  return h("p", { class: "soft small", text: one === two ? one : `${one}; the other: ${two.toLowerCase()}` });
}

function funnels(a, b) {
  const key = (row) => `${row.stage}\u0000${row.reason}`;
  const skip = (row) => row.stage === "read" || row.stage === "kept" || row.reason === "changed, not dropped";
  const rows = new Map();
  [a, b].forEach((run, n) => {
    for (const row of run.funnel) {
      if (skip(row)) continue;
      if (!rows.has(key(row))) rows.set(key(row), { stage: row.stage, reason: row.reason, found: [null, null] });
      rows.get(key(row)).found[n] = row;
    }
  });
  const cell = (row) => (row ? [count(row.documents), h("span", { class: "soft beside", text: percent(row.share) })] : "–");
  const listed = [...rows.values()].map(({ stage, reason, found }) => {
    const [x, y] = found.map((row) => (row ? row.share : 0));
    return [h("span", {}, stage, h("span", { class: "soft small under", text: reason })), h("span", {}, cell(found[0])), h("span", {}, cell(found[1])), points(y - x)];
  });
  return table("Dropped by stage and reason", [["Stage", ""], [a.name, "n"], [b.name, "n"], ["points", "n"]], listed);
}

function decided(d, a, b) {
  const share = (n) => h("span", { class: "soft beside", text: percent(d.compared ? n / d.compared : NaN) });
  const cell = (n) => h("span", {}, count(n), share(n));
  const parts = [
    h("p", { text: `Of ${plural(d.compared, "document")} that are in both samples:` }),
    table("Decisions of both runs", [["", ""], [`kept by ${b.name}`, "n"], [`dropped by ${b.name}`, "n"]], [
      [`kept by ${a.name}`, cell(d.both_kept), h("strong", {}, cell(d.only_first))],
      [`dropped by ${a.name}`, h("strong", {}, cell(d.only_second)), cell(d.neither)],
    ]),
  ];
  if (d.note) parts.push(note(d.note));
  const say = (text) => (text ? text : "kept");
  if (d.reasons.length) {
    parts.push(table("Why they differ", [[a.name, ""], [b.name, ""], ["documents", "n"]], d.reasons.map(([first, second, n]) => [say(first), say(second), count(n)])));
  }
  if (d.documents.length) {
    const listed = d.documents.map((doc) =>
      h("details", { class: "differ" },
        h("summary", {}, h("span", { class: "id", text: doc.id }), h("span", { class: "snippet", dir: "auto", text: doc.text.replace(/\s+/g, " ").slice(0, 120) || "(an empty text)" }),
          h("span", { class: "verdict" }, h("span", { class: `badge ${doc.first ? "dropped" : "kept"}`, text: say(doc.first ? "dropped" : "") }), ` ${a.name}${doc.first ? `: ${doc.first}` : ""}`),
          h("span", { class: "verdict" }, h("span", { class: `badge ${doc.second ? "dropped" : "kept"}`, text: say(doc.second ? "dropped" : "") }), ` ${b.name}${doc.second ? `: ${doc.second}` : ""}`)),
        h("div", { class: "text", dir: "auto", lang: "", tabindex: "0", role: "region", "aria-label": `Text of ${doc.id}`, text: doc.text }),
        doc.cut ? h("p", { class: "soft small", text: `${plural(doc.cut, "more character")} not shown.` }) : null,
        page.runs.some((run) => run.sample && run.sample.documents.some((other) => other.id === doc.id)) ? h("p", {}, h("a", { href: `#doc=${encodeURIComponent(doc.id)}`, text: "With scores and highlights" })) : null));
    const list = h("div", {}, listed.slice(0, 12));
    const rest = listed.slice(12);
    const more = h("button", { type: "button", class: "plain", text: `Show ${count(rest.length)} more`, on: { click: () => {
      list.append(...rest);
      more.remove();
    } } });
    parts.push(h("h3", { text: `${plural(listed.length, "document")} to look at` }), list);
    if (rest.length) parts.push(h("p", {}, more));
  }
  return parts;
}
