/* What went in, what came out, what was lost where. */

function overview(run) {
  const counts = run.counts;
  const parts = [h("h1", { text: run.name }), headline(run)];
  if (run.progress) parts.push(progress(run.progress));
  parts.push(...run.notes.map(note), facts(counts), section("Stage by stage", funnel(run)));
  const small = [sources(run), personal(run), duplicates(run)].filter(Boolean);
  if (small.length) parts.push(h("div", { class: "columns" }, ...small));
  if (run.quarantine.length) parts.push(section("Set aside", quarantine(run)));
  const timed = run.stages.filter((stage) => stage.seconds !== null);
  if (timed.length) parts.push(section("Time", times(run, timed)));
  return parts;
}

function headline(run) {
  const { kept, records } = run.counts;
  const words = run.complete ? "kept" : "kept so far";
  return h(
    "p",
    { class: "headline" },
    h("strong", { text: `${count(kept)} of ${count(records)}` }),
    ` documents ${words}`,
    records ? ` (${percent(kept / records)})` : "",
    h("span", { class: "headbar" }, records ? meter(kept / records, (run.counts.dropped + run.counts.quarantined) / records) : null),
  );
}

function progress(p) {
  const words = { running: "At work", stopped: "Stopped", failed: "Failed" }[p.state];
  const left = p.seconds_left === null ? "" : `, ${duration(p.seconds_left)} left`;
  const where = p.phase ? `, ${p.phase}` : "";
  return h(
    "div",
    { class: `progress ${p.state}` },
    h("p", {}, h("strong", { text: words }), ` at ${percent(p.share)}${where}${left}.`, p.said ? ` ${p.said}` : ""),
    meter(p.share),
  );
}

function facts(counts) {
  const items = [
    ["read", count(counts.records)],
    ["kept", count(counts.kept)],
    ["dropped", count(counts.dropped)],
    ["set aside", count(counts.quarantined)],
    ["bytes in", bytes(counts.bytes_in)],
    ["bytes out", bytes(counts.bytes_out)],
  ];
  if (counts.tokens !== null) items.push(["tokens", count(counts.tokens)]);
  return h("dl", { class: "facts" }, items.map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: value }))));
}

/** A row of the table for each stage; the reasons of a stage are rows under it. */
function funnel(run) {
  const all = run.counts.records || 1;
  const cell = (text, kind = "n") => h("td", { class: kind }, text);
  const reasons = new Map();
  for (const row of run.funnel) {
    if (row.stage === "read" || row.stage === "kept") continue;
    if (!reasons.has(row.stage)) reasons.set(row.stage, []);
    reasons.get(row.stage).push(row);
  }
  const rows = [];
  const stageRow = (label, kind, came, lost, left) =>
    rows.push(
      h(
        "tr",
        { class: "stage" },
        h("th", { scope: "row" }, label, kind ? h("span", { class: "soft kind", text: kind }) : null, h("span", { class: "narrow" }, meter((came - lost) / all, lost / all))),
        h("td", { class: "barcell" }, meter((came - lost) / all, lost / all)),
        cell(lost ? count(lost) : "–"),
        cell(lost && came ? percent(lost / came) : ""),
        cell(count(left)),
      ),
    );
  const reasonRows = (found, came) => {
    for (const row of found) {
      const changed = row.reason === "changed, not dropped";
      rows.push(
        h(
          "tr",
          { class: "reason" },
          h("th", { scope: "row", text: changed ? `changed ${plural(row.documents, "document")}` : row.reason }),
          h("td", { class: "barcell" }),
          cell(changed ? "" : count(row.documents)),
          cell(changed || !came ? "" : percent(row.documents / came)),
          cell(""),
        ),
      );
    }
  };
  const { records, quarantined, kept } = run.counts;
  const sum = (found) => found.reduce((n, row) => n + (row.reason === "changed, not dropped" ? 0 : row.documents), 0);
  stageRow("Input", "", records, quarantined, records - quarantined);
  reasonRows(reasons.get("quarantined") || [], records);
  reasons.delete("quarantined");
  let left = records - quarantined;
  const known = run.stages.length ? run.stages : [...reasons.keys()].map((label) => ({ label, kind: "", documents_in: null, documents_out: null }));
  for (const stage of known) {
    const found = reasons.get(stage.label) || [];
    const came = stage.documents_in ?? left;
    const lost = stage.documents_in === null || stage.documents_out === null ? sum(found) : stage.documents_in - stage.documents_out;
    left = came - lost;
    stageRow(stage.label, stage.kind === "other" ? "" : stage.kind, came, lost, left);
    reasonRows(found, came);
  }
  stageRow("Output", "", kept, 0, kept);
  const head = [["Stage", ""], ["", "barcell"], ["lost", "n"], ["share", "n"], ["left", "n"]];
  return h("div", {}, legend([["kept", "goes on"], ["dropped", "lost here; its share is of the documents that came to the stage"]]), table("What each stage lost, and why", head, rows, "funnel"));
}

function legend(items) {
  return h("p", { class: "legend" }, items.map(([kind, text]) => h("span", {}, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), text)));
}

function times(run, timed) {
  const most = Math.max(...timed.map((stage) => stage.seconds), 1e-9);
  const rows = timed.map((stage) => [
    stage.label,
    h("span", { class: "meter thin", "aria-hidden": "true" }, h("span", { class: "part main", style: { width: `${(100 * stage.seconds) / most}%` } })),
    duration(stage.seconds),
    stage.per_second === null ? "–" : count(stage.per_second),
  ]);
  const of = run.sample ? ` on ${plural(run.sample.drawn, "sampled document")}` : "";
  return h(
    "div",
    {},
    h("p", { class: "soft", text: `Measured in one thread${of} while this page was made; the first stage of a kind includes what it loads.` }),
    table("Time of each stage, and documents per second", [["Stage", ""], ["", "barcell"], ["time", "n"], ["per second", "n"]], rows),
  );
}

function sources(run) {
  if (!run.sources.length) return null;
  const rows = run.sources.map(([name, records, kept]) => [h("span", { class: "path", text: name }), count(records), count(kept), kept === null ? "" : percent(kept / (records || 1))]);
  return section("Sources", table("Sources", [["Source", ""], ["read", "n"], ["kept", "n"], ["", "n"]], rows));
}

function personal(run) {
  if (!run.entities.length) return null;
  const rows = run.entities.map(([entity, found]) => [entity, count(found)]);
  return section("Personal data", table("Personal data found", [["Kind", ""], ["places found", "n"]], rows));
}

function duplicates(run) {
  const d = run.duplicates;
  if (!d) return null;
  const share = d.looked_at ? ` (${percent(d.copies / d.looked_at)}; 95 %: ${interval(d.copies, d.looked_at)})` : "";
  return section(
    "Exact copies",
    h("p", { text: `${plural(d.copies, "document")} of ${count(d.looked_at)} ${d.copies === 1 ? "has" : "have"} the text of one before${share}, ${d.where}.` }),
  );
}

function quarantine(run) {
  return h(
    "div",
    { class: "causes" },
    run.quarantine.map((cause) =>
      h(
        "details",
        {},
        h("summary", {}, `${cause.cause}: `, h("strong", { text: plural(cause.documents, "record") })),
        table(
          `Examples of ${cause.cause}`,
          [["File", ""], ["line", "n"], ["byte", "n"], ["what was wrong", ""]],
          cause.examples.map(([file, line, offset, detail]) => [h("span", { class: "path", text: file }), count(line), offset < 0 ? "–" : count(offset), detail]),
        ),
      ),
    ),
  );
}
