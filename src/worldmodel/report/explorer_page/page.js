// The page: controls change the state, the state is predicted and drawn, and the address behind # holds it.
const place = (id) => document.getElementById(id);
const LINES = ["wide", "narrow", "other", "real", "model"];
const charts = { features: new Map(), along: new Map() };
const syncs = [];
let [state, episodes, model, encoded, futures] = [];
let [asked, drawn, busy] = [0, 0, false];
const explorer = (globalThis.explorer = { state: () => state, futures: () => futures, settled: () => drawn === asked });

async function start() {
  try {
    episodes = await readEpisodes();
    model = await Model.open();
    state = read(location.hash, episodes);
    buildControls();
    addEventListener("hashchange", () => {
      state = read(location.hash, episodes);
      sync();
      update();
    });
    sync();
    await update();
    place("loading").hidden = true;
    place("page").hidden = false;
  } catch (error) {
    fail(error);
  }
}

function fail(error) {
  place("loading").hidden = false;
  place("loading").className = "warning";
  place("loading").textContent = `The model cannot run here: ${error.message ?? error}.`;
  console.warn(error);
}

function sync() {
  for (const each of syncs) each();
}

function changed() {
  sync();
  update();
  clearTimeout(changed.waits);
  changed.waits = setTimeout(() => history.replaceState(null, "", `#${written(state)}`), 250);
}

// While a slider moves, what is asked for last is predicted next.
async function update() {
  asked += 1;
  if (busy) return;
  busy = true;
  try {
    while (drawn < asked) {
      const turn = asked;
      await predict();
      await new Promise(requestAnimationFrame);
      draw();
      drawn = turn;
    }
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

// The future of the plan, and that of the actions that were logged.
async function predict() {
  const [episode, key] = [episodes[state.episode], `${state.episode}/${state.frame}`];
  if (encoded?.key !== key) encoded = { key, z: await model.encode(episode, state.frame) };
  const last = episode.frames - 1;
  const context = Array.from({ length: state.ahead }, (_, k) => episode.context(Math.min(state.frame + k, last)));
  const plan = planned(state, episode);
  const [own, logged] = await model.predict(encoded.z, [plan, episode.logged(state.frame, state.ahead)], context);
  futures = { episode, frame: state.frame, ahead: state.ahead, plan, own, logged };
}

function draw() {
  const { episode, frame, ahead, own } = futures;
  const past = Math.max(facts.history, Math.ceil(ahead / 2));
  const cursor = clamp(state.at, 1, ahead);
  const along = {};
  if (own.reward) along["Reward"] = { base: [], values: "reward" };
  if (own.disagreement) along["Disagreement"] = { base: [0], values: "disagreement" };
  if (own.termination) along["Probability that the task ends"] = { base: [0, 1], values: "termination" };
  arrange("features", state.features);
  arrange("along", Object.keys(along));
  for (const at of state.features) drawFeature(charts.features.get(at), at, past, cursor);
  for (const [title, told] of Object.entries(along)) drawAlong(charts.along.get(title), told, past, cursor);
  for (const [at, line] of sparklines.entries()) line(at);
  summarize();
  place("where").textContent = `frame ${frame} of ${episode.frames}`;
  if (place("numbers").open) fillNumbers();
}

function arrange(kind, keys) {
  const known = charts[kind];
  for (const key of keys) {
    if (known.has(key)) continue;
    const title = kind === "features" ? facts.features[key].name : key;
    known.set(key, new Chart(title, LINES, (k) => pointAt(k)));
  }
  const figures = keys.map((key) => known.get(key).figure);
  const shown = place(kind).children;
  if (figures.length !== shown.length || figures.some((figure, at) => figure !== shown[at])) place(kind).replaceChildren(...figures);
}

function pointAt(k) {
  const at = clamp(k, 1, state.ahead);
  if (at === state.at) return;
  state.at = at;
  sync();
  draw();
}

function drawFeature(chart, at, past, cursor) {
  const { episode, frame, ahead, own } = futures;
  const [real, now] = [logged(past, (row) => episode.feature(row, at), episode.frames), episode.feature(frame, at)];
  const model = [[0, now], ...own.features.map((row, k) => [k + 1, row[at]])];
  const std = [0, ...own.std.map((row) => row[at])];
  const banded = facts.features[at].kind !== "category";
  const band = (width) => (banded ? model.map(([x, y], k) => [x, y - width * std[k], y + width * std[k]]) : []);
  const [narrow, wide] = facts.widths.map(band);
  const { low, high } = facts.features[at];
  const [least, seen] = [(high - low) / 20, [...real, ...model, ...wide].flatMap(([, ...values]) => values)];
  chart.range = kept(chart, [now - least, now + least], seen, low - (high - low) / 4, high + (high - low) / 4);
  const [value, half] = [model[cursor][1], facts.widths[1] * std[cursor]];
  const came = frame + cursor < episode.frames ? `, logged ${number(episode.feature(frame + cursor, at))}` : "";
  const between = banded ? ` (${number(value - half)} to ${number(value + half)})` : "";
  const said = `${number(value)}${between}${came}`;
  chart.draw({ from: -past, to: ahead, ...chart.range, data: { real, model, narrow, wide }, cursor, said });
}

function drawAlong(chart, { base, values }, past, cursor) {
  const { episode, ahead, own, logged: usual } = futures;
  const points = (future) => future[values].map((value, k) => [k + 1, value]);
  const real = values === "reward" && facts.rewards ? logged(past, (row) => (row ? episode.reward(row - 1) : NaN), episode.frames) : [];
  const [model, other] = [points(own), points(usual)];
  chart.range = kept(chart, base, [...real, ...model, ...other].map(([, value]) => value), -Infinity, Infinity);
  const said = `${number(own[values][cursor - 1])}, logged actions: ${number(usual[values][cursor - 1])}`;
  chart.draw({ from: -past, to: ahead, ...chart.range, data: { real, model, other }, cursor, said });
}

// An axis takes in what is drawn, up to some limits; it shrinks only for another situation, and never while a slider moves.
function kept(chart, base, values, least, most) {
  const key = [state.episode, state.frame, state.ahead].join();
  if (!explorer.moving && chart.key !== key) [chart.key, chart.base] = [key, ends(base)];
  const inside = values.map((value) => clamp(value, least, most));
  chart.base = ends(inside, chart.base ?? ends(base));
  return { low: chart.base[0], high: chart.base[1] };
}

function logged(past, value, frames) {
  const found = [];
  for (let x = -past; x <= futures.ahead; x++) {
    const row = futures.frame + x;
    if (row >= 0 && row < frames) found.push([x, value(row)]);
  }
  return found;
}

const rewards = (episode) => Array.from({ length: episode.frames - 1 }, (_, row) => episode.reward(row));
const when = (k) => (facts.interval_s ? `+${+(k * facts.interval_s).toPrecision(3)} s` : `+${k}`);

function summarize() {
  const { episode, frame, ahead, own, logged: usual } = futures;
  const told = [];
  if (own.reward) {
    const got = rewards(episode).slice(frame, frame + ahead);
    const sum = facts.rewards && got.length === ahead ? got.reduce((total, each) => total + each, 0) : NaN;
    const title = `reward of ${ahead} ${ahead === 1 ? "frame" : "frames"}`;
    told.push([title, number(own.return), `logged actions: ${number(usual.return)}`, `in the log: ${number(sum)}`]);
  }
  if (own.disagreement) told.push(["disagreement, mean", number(own.doubt), `logged actions: ${number(usual.doubt)}`]);
  if (own.termination) told.push(["task has ended by then", percent(own.ended), `logged actions: ${percent(usual.ended)}`]);
  told.forEach((texts, at) => {
    const box = place("summary").children[at] ?? place("summary").appendChild(fact());
    box.querySelectorAll("dt, b, small").forEach((line, part) => (line.textContent = texts[part] ?? ""));
  });
  clearTimeout(summarize.waits);
  const words = told.map((texts) => texts.join(" ")).join("; ");
  summarize.waits = setTimeout(() => (place("spoken").textContent = words), 700);
}

const fact = () => element("div", {}, element("dt"), element("dd", {}, element("b"), element("small"), element("small")));

function fillNumbers() {
  const { own, ahead } = futures;
  const titles = ["frame", ...state.features.flatMap((at) => [facts.features[at].name, "std"])];
  const along = ["reward", "disagreement", "termination"].filter((name) => own[name]);
  const head = element("tr", {}, ...[...titles, ...along].map((title) => element("th", { scope: "col" }, title)));
  const rows = Array.from({ length: ahead }, (_, k) => {
    const values = state.features.flatMap((at) => [own.features[k][at], own.std[k][at]]);
    const cells = [...values, ...along.map((name) => own[name][k])].map((value) => element("td", {}, number(value, 5)));
    return element("tr", {}, element("th", { scope: "row" }, `+${k + 1}`), ...cells);
  });
  place("table").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}
