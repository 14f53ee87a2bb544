/* The sample of a run under bounds that move: what each bound keeps alone, and all of them together. */

const READ = { u1: Uint8Array, i1: Int8Array, u2: Uint16Array, i2: Int16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

/** A packed column as float64: the very numbers that the engine compared. */
function unpack(packed) {
  const text = atob(packed.data);
  const raw = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) raw[i] = text.charCodeAt(i);
  return Float64Array.from(new READ[packed.kind](raw.buffer));
}

/**
 * Rows fail at scores, each by its own bounds, or at a stage that has none to move (`fixed`). For each row, `failed` is the
 * number of scores that it fails at and `sum` the sum of their indices: where one alone fails, the sum says which. So moving a
 * bound costs one pass over one column, and one over the rows.
 */
class Sieve {
  constructor(run) {
    const sample = run.sample;
    this.rows = sample.drawn;
    this.of = sample.of;
    this.scores = run.scores.filter((score) => sample.columns[score.column] && !score.derived);
    this.values = this.scores.map((score) => unpack(sample.columns[score.column]));
    this.decided = unpack(sample.decided);
    this.fixed = unpack(sample.fixed);
    this.low = this.scores.map((score) => score.low);
    this.high = this.scores.map((score) => score.high);
    this.failed = new Uint16Array(this.rows);
    this.sum = new Uint32Array(this.rows);
    this.failing = this.scores.map(() => new Uint8Array(this.rows));
    this.alone = this.scores.map(() => this.rows);
    this.only = new Float64Array(this.scores.length);
    const none = this.scores.length; // an index of no score
    for (let row = 0; row < this.rows; row++) {
      if (this.fixed[row] >= 0) {
        this.failed[row] = 1;
        this.sum[row] = none;
      }
    }
    this.scores.forEach((_, i) => this.judge(i));
    this.tally();
    this.keptAtFirst = this.kept;
    this.atFirst = Uint8Array.from(this.failed, (n) => (n === 0 ? 1 : 0));
    this.watchers = new Set();
  }

  index(column) {
    return this.scores.findIndex((score) => score.column === column);
  }

  moved(i) {
    return this.low[i] !== this.scores[i].low || this.high[i] !== this.scores[i].high;
  }

  get movedCount() {
    return this.scores.reduce((n, _, i) => n + (this.moved(i) ? 1 : 0), 0);
  }

  /** Whether a number is kept. None at all (NaN) is within no bounds; it is free only where nothing decides. */
  keeps(i, value) {
    const low = this.low[i];
    const high = this.high[i];
    const score = this.scores[i];
    if (low === null && high === null && score.filter === "") return true;
    const within = value === value && (low === null || value >= low) && (high === null || value <= high);
    return within !== score.invert;
  }

  judge(i) {
    const values = this.values[i];
    const failing = this.failing[i];
    let kept = 0;
    for (let row = 0; row < this.rows; row++) {
      const fails = this.keeps(i, values[row]) ? 0 : 1;
      kept += 1 - fails;
      if (fails !== failing[row]) {
        failing[row] = fails;
        this.failed[row] += fails ? 1 : -1;
        this.sum[row] += fails ? i : -i;
      }
    }
    this.alone[i] = kept;
  }

  tally() {
    this.only.fill(0);
    let kept = 0;
    for (let row = 0; row < this.rows; row++) {
      if (this.failed[row] === 0) kept++;
      else if (this.failed[row] === 1 && this.sum[row] < this.only.length) this.only[this.sum[row]]++;
    }
    this.kept = kept;
  }

  /** Move the bounds of a score; null is no bound. */
  move(i, low, high) {
    if (low === this.low[i] && high === this.high[i]) return;
    this.low[i] = low;
    this.high[i] = high;
    this.judge(i);
    this.tally();
    this.tell(i);
  }

  reset(i = null) {
    this.scores.forEach((score, k) => {
      if (i === null || k === i) {
        this.low[k] = score.low;
        this.high[k] = score.high;
        this.judge(k);
      }
    });
    this.tally();
    this.tell(i);
  }

  tell(i) {
    for (const watcher of this.watchers) watcher(i);
  }

  /** Documents of the sample, kept with the bounds as they are now. */
  keepsRow(row) {
    return this.failed[row] === 0;
  }

  changesRow(row) {
    return (this.failed[row] === 0 ? 1 : 0) !== this.atFirst[row];
  }
}

const sieves = new Map();

/** The sieve of a run, made when it is first needed; null where the page holds no sample of it. */
function sieveOf(runIndex) {
  if (!sieves.has(runIndex)) sieves.set(runIndex, page.runs[runIndex].sample ? new Sieve(page.runs[runIndex]) : null);
  return sieves.get(runIndex);
}

// -- axes ----------------------------------------------------------------------------------------------------

/** The axis of a score's histogram: places in [0, 1] to numbers and back, and numbers that are round enough to write down. */
class Axis {
  constructor(score) {
    const edges = score.edges;
    this.first = edges[0];
    this.last = edges[edges.length - 1] > edges[0] ? edges[edges.length - 1] : edges[0] + 1;
    this.integer = score.integer;
    this.log = score.scale === "log";
    this.a = this.to(this.first);
    this.b = this.to(this.last);
    this.digits = Math.max(0, Math.ceil(3 - Math.log10(this.last - this.first)));
  }

  to(value) {
    return this.log ? Math.log1p(Math.max(value, -0.999999)) : value;
  }

  place(value) {
    return Math.min(Math.max((this.to(value) - this.a) / (this.b - this.a), 0), 1);
  }

  value(place) {
    const at = this.a + place * (this.b - this.a);
    return this.round(this.log ? Math.expm1(at) : at);
  }

  round(value) {
    if (this.integer) return Math.round(this.log && value >= 1000 ? Number(value.toPrecision(3)) : value);
    return this.log ? Number(value.toPrecision(3)) : Number(value.toFixed(Math.min(this.digits, 20)));
  }

  /** One step of a key, up or down. */
  step(value, steps) {
    const moved = this.value(this.place(value) + steps / 200);
    if (moved !== value) return moved;
    return this.round(value + Math.sign(steps) * (this.integer ? 1 : 10 ** -Math.min(this.digits, 20)));
  }

  /** The end of the axis, rounded outwards: nothing that was seen is beyond it. */
  end(side) {
    if (side === "low") return this.integer ? Math.floor(this.first) : this.first;
    return this.integer ? Math.ceil(this.last) : this.last;
  }
}

function boundText(score, low, high) {
  const inside = score.invert ? "Drops" : "Keeps";
  if (low === null && high === null) return "No bound";
  if (low === null) return `${inside} up to ${number(high)}`;
  if (high === null) return `${inside} from ${number(low)}`;
  return `${inside} ${number(low)} to ${number(high)}`;
}
