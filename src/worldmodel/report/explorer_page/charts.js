// Charts that are drawn anew while a slider moves: the same elements all the time, only their paths and texts change.
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [360, 150, 44, 20, 6, 20];
const SVG = "http://www.w3.org/2000/svg";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawing(parent, tag, attributes = {}) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

function number(value, digits = 3) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const tiny = size > 0 && size < 1e-4;
  const said = size >= 10 ** digits ? value.toFixed(0) : tiny ? value.toExponential(1) : value.toPrecision(digits);
  return said.replace("-", "\u2212");
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function ticks(low, high, most) {
  const rough = (high - low) / most;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((each) => each * size >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at++) found.push(at * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return found.map((value) => ({ value, said: value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "\u2212") }));
}

// Least and greatest of some numbers, without those that are not finite.
function ends(values, [low, high] = [Infinity, -Infinity]) {
  for (const value of values) if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return [low, high];
}

class Chart {
  // Series by name: whether they are a line or a band; the order is that of drawing.
  constructor(title, series, onPoint) {
    this.readout = element("span", { class: "readout" });
    this.title = title;
    this.svg = drawing(document.createElement("div"), "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    this.grid = drawing(this.svg, "g", { class: "grid" });
    const box = { x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: HEIGHT - TOP - BOTTOM };
    const inner = drawing(this.svg, "svg", box);
    this.paths = Object.fromEntries(series.map((name) => [name, drawing(inner, "path", { class: name })]));
    this.now = drawing(inner, "path", { class: "now" });
    this.cursor = drawing(inner, "path", { class: "cursor" });
    this.svg.addEventListener("pointermove", (event) => {
      const { left, width } = this.svg.getBoundingClientRect();
      const x = ((event.clientX - left) / width) * WIDTH;
      onPoint(Math.round(this.from + ((x - LEFT) / (WIDTH - LEFT - RIGHT)) * (this.to - this.from)));
    });
    const caption = element("figcaption", {}, element("bdi", {}, title), this.readout);
    this.figure = element("figure", {}, caption, this.svg);
  }

  // Frames from..to, values low..high; data by series: [[x, y], ...] or, of a band, [[x, low, high], ...].
  draw({ from, to, low, high, data, cursor, said }) {
    if (!(high > low)) [low, high] = Number.isFinite(low) ? [low - 0.5, low + 0.5] : [0, 1];
    const margin = 0.04 * (high - low);
    Object.assign(this, { from, to, low: low - margin, high: high + margin });
    for (const [name, path] of Object.entries(this.paths)) path.setAttribute("d", this.#path(data[name] ?? []));
    this.now.setAttribute("d", `M${this.#x(0)} 0V${HEIGHT}`);
    this.cursor.setAttribute("d", `M${this.#x(cursor)} 0V${HEIGHT}`);
    this.#scale();
    this.readout.textContent = said;
    this.svg.setAttribute("aria-label", `Line chart of ${this.title}. ${said}`);
  }

  #x(frame) {
    return +(((frame - this.from) / (this.to - this.from)) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  }

  #y(value) {
    const share = clamp((this.high - value) / (this.high - this.low), -9, 9);
    return +(share * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  }

  // A missing reading leaves a gap.
  #path(points) {
    const there = (point) => point.every(Number.isFinite);
    if (points[0]?.length === 3) {
      const known = points.filter(there);
      const corners = [...known.map(([x, low]) => [x, low]), ...known.reverse().map(([x, , high]) => [x, high])];
      return corners.length ? `M${corners.map(([x, y]) => `${this.#x(x)} ${this.#y(y)}`).join("L")}Z` : "";
    }
    const begins = (at) => at === 0 || !there(points[at - 1]);
    const drawn = points.map((point, at) => there(point) && `${begins(at) ? "M" : "L"}${this.#x(point[0])} ${this.#y(point[1])}`);
    return drawn.filter(Boolean).join("");
  }

  #scale() {
    const key = [this.from, this.to, this.low, this.high].join();
    if (key === this.scaled) return;
    this.scaled = key;
    this.grid.replaceChildren();
    for (const { value, said } of ticks(this.low, this.high, 4)) {
      const y = TOP + this.#y(value);
      drawing(this.grid, "path", { d: `M${LEFT} ${y}H${WIDTH - RIGHT}` });
      drawing(this.grid, "text", { x: LEFT - 5, y: y + 3.5, "text-anchor": "end" }).textContent = said;
    }
    const unit = facts.interval_s ?? 1;
    for (const { value, said } of ticks(this.from * unit, this.to * unit, 6)) {
      const words = value > 0 ? `+${said}` : Math.abs(value) < 1e-12 ? "now" : said;
      const place = { x: LEFT + this.#x(value / unit), y: HEIGHT - 5, "text-anchor": "middle" };
      drawing(this.grid, "text", place).textContent = facts.interval_s && words !== "now" ? `${words} s` : words;
    }
  }
}
