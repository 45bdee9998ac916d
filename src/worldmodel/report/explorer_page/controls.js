// Sliders, choices and boxes. Each knows how to show the state again, wherever it was changed.
const sparklines = [];

function buildControls() {
  const situation = place("situation");
  const names = episodes.map(({ agent, name }) => `${agent}, ${name}`);
  situation.append(
    select("test episode", names, () => state.episode, (at) => {
      const { frames } = episodes[at];
      Object.assign(state, { episode: at, frame: Math.min(state.frame, frames - 1) });
    }),
    slider("now, at frame", () => [facts.first, episodes[state.episode].frames - 1, 1], () => state.frame, (at) => (state.frame = at)),
  );
  if (facts.most > 1 && !facts.whole) {
    situation.append(slider("frames ahead", () => [1, facts.most, 1], () => state.ahead, setAhead));
  }
  situation.append(slider("read off at", () => [1, state.ahead, 1], () => Math.min(state.at, state.ahead), (at) => (state.at = at), when));
  if (facts.most > facts.horizon) {
    const beyond = element("p", { class: "note" }, `Trained for ${facts.horizon} frames: errors grow beyond.`);
    syncs.push(() => beyond.classList.toggle("absent", state.ahead <= facts.horizon));
    situation.append(beyond);
  }
  if (facts.discrete) buildChoice();
  else if (facts.actions.length) buildPlan();
  else place("plan").append(element("p", { class: "note" }, "This model takes no actions: there is nothing to plan."));
  if (facts.context) place("plan").append(element("p", { class: "note" }, "What is known ahead (context) stays as logged."));
  buildFeatures();
  place("numbers").addEventListener("toggle", () => place("numbers").open && fillNumbers());
}

function setAhead(ahead) {
  Object.assign(state, { ahead, at: state.at === state.ahead ? ahead : Math.min(state.at, ahead) });
}

function slider(title, range, get, set, said = String) {
  const [input, output] = [element("input", { type: "range" }), element("output")];
  input.addEventListener("input", () => {
    explorer.moving = true;
    set(+input.value);
    changed();
  });
  input.addEventListener("change", () => {
    explorer.moving = false;
    update();
  });
  syncs.push(() => {
    [input.min, input.max, input.step] = range();
    input.value = get();
    output.textContent = said(get());
    input.setAttribute("aria-valuetext", said(get()));
  });
  return element("label", { class: "slider" }, element("span", {}, title), input, output);
}

function select(title, names, get, set) {
  const input = element("select", {}, ...names.map((name, at) => element("option", { value: at }, name)));
  input.addEventListener("change", () => {
    set(+input.value);
    changed();
  });
  syncs.push(() => (input.value = get()));
  return element("label", { class: "choice" }, element("span", {}, title), input);
}

function button(title, act) {
  const made = element("button", { type: "button" }, title);
  made.addEventListener("click", () => {
    act();
    changed();
  });
  return made;
}

function buildPlan() {
  const every = (change) => () => state.plan.forEach((own, at) => Object.assign(own, change(facts.actions[at])));
  const zero = ({ low, high }) => ({ shape: "hold", from: clamp(0, low, high) });
  place("plan").append(
    element("p", { class: "buttons" }, button("all as logged", every(() => ({ shape: "log" }))), button("all held at 0", every(zero))),
    ...facts.actions.map(actionRow),
  );
}

function actionRow(action, at) {
  const { low, high, name } = action;
  const shapes = Object.keys(SHAPES);
  const own = () => state.plan[at];
  const shape = select("", shapes.map((key) => SHAPES[key].title), () => shapes.indexOf(own().shape), (to) => reshape(at, shapes[to]));
  shape.querySelector("select").setAttribute("aria-label", `plan of ${name}`);
  const slots = [0, 1, 2].map((slot) => {
    const part = () => SHAPES[own().shape].parts[slot];
    const range = () => (part() === "period" ? [2, facts.most, 1] : [low, high, (high - low) / 200]);
    const said = (value) => (part() === "period" ? String(value) : number(value));
    const made = slider("", range, () => own()[KEYS[part()]] ?? low, (to) => (own()[KEYS[part()]] = to), said);
    syncs.push(() => {
      made.classList.toggle("absent", !part());
      made.firstChild.textContent = part() ?? "none";
      made.children[1].setAttribute("aria-label", `${name}, ${part()}`);
    });
    return made;
  });
  const list = element("div", { class: "slots" }, ...slots);
  syncs.push(() => (list.hidden = !SHAPES[own().shape].parts.length));
  const head = element("div", { class: "head" }, element("bdi", {}, name), sparkline(low, high), shape);
  return element("div", { class: "action", role: "group", "aria-label": name }, head, list);
}

// A plan that leaves the log begins where the log is.
function reshape(at, shape) {
  const [own, { low, high }] = [state.plan[at], facts.actions[at]];
  const logged = episodes[state.episode].logged(state.frame, state.ahead).map((row) => clamp(row[at], low, high));
  if (own.shape === "log") Object.assign(own, { from: logged[0], to: logged.at(-1) });
  if (shape === "wave") Object.assign(own, { from: low, to: high, period: own.period });
  own.shape = shape;
}

function sparkline(low, high) {
  const svg = drawing(document.createElement("div"), "svg", { viewBox: "0 0 90 26", class: "sparkline", "aria-hidden": "true" });
  const [other, own] = ["other", "model"].map((kind) => drawing(svg, "path", { class: kind }));
  sparklines.push((at) => {
    const { plan, episode, frame, ahead } = futures;
    const path = (rows) => {
      const y = (row) => (25 - (24 * (clamp(row[at], low, high) - low)) / (high - low)).toFixed(1);
      return rows.map((row, k) => `${k ? "V" : "M0 "}${y(row)}H${((90 * (k + 1)) / ahead).toFixed(1)}`).join("");
    };
    other.setAttribute("d", path(episode.logged(frame, ahead)));
    own.setAttribute("d", path(plan));
  });
  return svg;
}

function buildChoice() {
  const [keys, names] = [Object.keys(CHOICES), facts.actions.map(({ name }) => name)];
  const shape = select("plan", Object.values(CHOICES), () => keys.indexOf(state.choice.shape), (to) => {
    const logged = episodes[state.episode].logged(state.frame, facts.most).map(chosen);
    if (state.choice.shape === "log") Object.assign(state.choice, { one: logged[0], each: logged });
    state.choice.shape = keys[to];
  });
  const one = select("action", names, () => state.choice.one, (to) => (state.choice.one = to));
  const each = Array.from({ length: facts.most }, (_, k) =>
    select(when(k), names, () => state.choice.each[k], (to) => (state.choice.each[k] = to)),
  );
  const list = element("div", { class: "each" }, ...each);
  syncs.push(() => {
    one.hidden = state.choice.shape !== "one";
    list.hidden = state.choice.shape !== "each";
    each.forEach((made, k) => (made.hidden = k >= state.ahead));
  });
  place("plan").append(shape, one, list);
}

function buildFeatures() {
  const boxes = facts.features.map(({ name }, at) => {
    const input = element("input", { type: "checkbox" });
    input.addEventListener("change", () => {
      const shown = new Set(state.features);
      if (input.checked) shown.add(at);
      else shown.delete(at);
      state.features = [...shown].sort((one, other) => one - other);
      changed();
    });
    syncs.push(() => (input.checked = state.features.includes(at)));
    return element("label", {}, input, element("bdi", {}, name));
  });
  place("boxes").append(...boxes);
  syncs.push(() => (place("shown").textContent = `${state.features.length} of ${facts.features.length}`));
}

start();
