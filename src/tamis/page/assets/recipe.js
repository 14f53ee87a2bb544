/* The recipe of a run, and the recipe with the bounds as they are now. */

const tomlText = (text) => JSON.stringify(text).replaceAll("\u007f", "\\u007f");

function tomlNumber(value, integer) {
  const text = String(value);
  if (integer && Number.isInteger(value) && !text.includes("e")) return text;
  if (text.includes("e")) return text.replace("e+", "e");
  return Number.isInteger(value) ? `${text}.0` : text;
}

const columnName = (column) => (/^[A-Za-z_][A-Za-z0-9_]*$/.test(column) && !/^(and|or|not|in|is|None|True|False|if|else|for|lambda)$/.test(column) ? column : `\`${column}\``);

/** A setting's line set to a value, or added. */
function withLine(lines, key, value) {
  const at = lines.findIndex((line) => line.split("=")[0].trim() === key);
  const line = `${key} = ${value}`;
  if (at < 0) return [...lines, line];
  return lines.map((old, n) => (n === at ? line : old));
}

/** The lines of a stage, from the settings that are shown, where the run brings none. */
function linesOf(stage, score) {
  const lines = ["[[stage]]", `use = ${tomlText(score ? score.filter : stage.label)}`];
  for (const [name, value] of stage.settings) {
    const plain = /^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(value) ? value : /^(True|False)$/.test(value) ? value.toLowerCase() : tomlText(value);
    lines.push(`${name} = ${plain}`);
  }
  return lines;
}

/** A condition that keeps what the bounds keep. */
function conditionOf(score, low, high) {
  const column = columnName(score.column);
  const parts = [];
  if (low !== null) parts.push(`${column} >= ${low}`);
  if (high !== null) parts.push(`${column} <= ${high}`);
  if (!parts.length) return `${column} is not None`;
  return score.invert ? `${column} is None or not (${parts.join(" and ")})` : parts.join(" and ");
}

const whereLines = (condition) => ["[[stage]]", 'use = "Where"', `expression = ${tomlText(condition)}`];

/** A filter's lines as those of a stage that writes its score, and drops nothing. */
function scoreLines(lines, column) {
  const own = lines.slice(1).filter((line) => /^(use|text_field) =/.test(line)).map((line) => line.replace(/^use =/, "filter ="));
  const settings = lines.slice(1).filter((line) => !/^(use|text_field|score_field|invert) =|^#|^\s*$/.test(line));
  if (settings.length) own.push(`settings = { ${settings.join(", ")} }`);
  return ["[[stage]]", 'use = "Score"', ...own, `score_field = ${tomlText(column)}`];
}

/** One stage with its bounds as they are now. A bound that no setting holds is a condition on the score. */
function stageLines(stage, sieve) {
  const found = sieve.scores.map((score, i) => ({ score, i })).filter(({ score, i }) => score.stage === stage.index && sieve.moved(i));
  let lines = stage.toml ? stage.toml.trim().split("\n") : linesOf(stage, found.length ? found[0].score : null);
  const after = [];
  for (const { score, i } of found) {
    const [low, high] = [sieve.low[i], sieve.high[i]];
    const changed = ["low", "high"].filter((side) => sieve[side][i] !== score[side]);
    const inSettings = changed.every((side) => score[`${side}_setting`] && sieve[side][i] !== null);
    const inColumn = lines.some((line) => line.startsWith("column ="));
    if (inSettings) for (const side of changed) lines = withLine(lines, score[`${side}_setting`], `${tomlNumber(sieve[side][i], score.integer)}  # was ${score[side] ?? "not set"}`);
    else {
      if (score.filter && (score.low !== null || score.high !== null)) lines = scoreLines(lines, score.column);
      else if (score.filter && !inColumn) lines = withLine(lines, "score_field", tomlText(score.column));
      after.push("", ...whereLines(conditionOf(score, low, high)));
    }
  }
  return [...lines, ...after].join("\n");
}

/** Conditions on columns that no stage of the plan makes. */
function columnLines(sieve) {
  return sieve.scores.flatMap((score, i) => (score.stage < 0 && sieve.moved(i) ? [whereLines(conditionOf(score, sieve.low[i], sieve.high[i])).join("\n")] : []));
}

function recipeWithBounds(run, sieve) {
  const whole = run.stages.length > 0 && run.recipe !== "" && run.stages.every((stage) => stage.toml);
  const stages = run.stages.filter((stage) => whole || sieve.scores.some((score, i) => score.stage === stage.index && sieve.moved(i)));
  const at = run.recipe.indexOf("[[stage]]");
  const head = whole && at > 0 ? [run.recipe.slice(0, at).trim()] : [];
  return `${[...head, ...stages.map((stage) => stageLines(stage, sieve)), ...columnLines(sieve)].join("\n\n")}\n`;
}

function showRecipe(run, sieve) {
  const moved = sieve.movedCount;
  const note = moved ? `${plural(moved, "bound")} moved. Save this as recipe.toml, and run it with: tamis run recipe.toml --set output.path=DIR` : "No bound was moved: this is the recipe of the run.";
  byId("recipe-note").textContent = note;
  byId("recipe-text").textContent = recipeWithBounds(run, sieve);
  byId("recipe-said").textContent = "";
  byId("recipe-dialog").showModal();
}

function recipeView(run) {
  const parts = [h("h1", { text: "Recipe and environment" })];
  if (run.recipe) {
    const said = h("span", { class: "soft", role: "status" });
    const text = h("pre", { tabindex: "0", "aria-label": "The recipe", text: run.recipe });
    const button = h("button", { type: "button", class: "plain", text: "Copy", on: { click: () => copy(run.recipe, text, said) } });
    parts.push(h("div", { class: "row" }, button, said), text);
  } else {
    parts.push(note("This run was not made by a recipe, so that its settings are not written down in its directory."));
  }
  if (run.stages.length) {
    parts.push(
      section(
        "Stages",
        h("ol", { class: "stages" }, run.stages.map((stage) =>
          h("li", {}, h("strong", { text: stage.label }), h("span", { class: "soft", text: ` ${stage.kind === "other" ? "" : stage.kind}` }),
            stage.settings.length ? h("p", { class: "settings" }, stage.settings.map(([name, value]) => h("span", {}, h("code", { text: name }), " ", value))) : null,
            stage.note ? h("p", { class: "soft small", text: stage.note }) : null))),
      ),
    );
  }
  parts.push(section("Environment", table("Environment", [["", ""], ["", ""]], run.environment.map(([name, value]) => [name, h("span", { class: "path", text: value })]), "pairs")));
  return parts;
}
