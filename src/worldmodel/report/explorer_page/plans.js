// Plans: what is done at each frame to come. A shape a number of the action; one choice a frame where they are discrete.
const SHAPES = {
  log: { title: "as logged", parts: [], at: (plan, k, ahead, logged) => logged },
  hold: { title: "held", parts: ["value"], at: (plan) => plan.from },
  ramp: {
    title: "ramp",
    parts: ["from", "to"],
    at: (plan, k, ahead) => plan.from + ((plan.to - plan.from) * k) / Math.max(1, ahead - 1),
  },
  wave: {
    title: "wave",
    parts: ["from", "to", "period"],
    at: (plan, k) => (plan.from + plan.to + (plan.to - plan.from) * Math.sin((2 * Math.PI * k) / plan.period)) / 2,
  },
};
const CHOICES = { log: "as logged", one: "one action", each: "one a frame" };
const KEYS = { value: "from", from: "from", to: "to", period: "period" };

// [K][A] of a state
function planned(state, episode) {
  const logged = episode.logged(state.frame, state.ahead);
  if (facts.discrete) {
    const { shape, one, each } = state.choice;
    if (shape === "log") return logged;
    return logged.map((_, k) => facts.actions.map((_, action) => +(action === (shape === "one" ? one : each[k]))));
  }
  return logged.map((row, k) => state.plan.map((own, at) => SHAPES[own.shape].at(own, k, state.ahead, row[at])));
}

const chosen = (row) => row.indexOf(Math.max(...row));
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const whole = (value, low, high, usual) => (Number.isInteger(+value) && value !== null && value !== "" ? clamp(+value, low, high) : usual);

const usualPlan = ({ low, high }) => ({ shape: "log", from: clamp(0, low, high), to: high, period: facts.horizon });

// A view as the address has it behind #, and back; what cannot be read is as usual.
function read(address, episodes) {
  const told = new URLSearchParams(address.replace(/^#/, ""));
  const number = whole(told.get("episode"), 0, episodes.length - 1, facts.start[0]);
  const { frames } = episodes[number];
  const shown = (told.get("features") ?? "").split(",").map((each) => whole(each, 0, facts.features.length - 1, -1));
  const ahead = whole(told.get("ahead"), 1, facts.most, facts.horizon);
  return {
    episode: number,
    frame: whole(told.get("frame"), facts.first, frames - 1, Math.min(facts.start[1], frames - 1)),
    ahead,
    at: ahead,
    features: told.has("features") ? [...new Set(shown)].filter((each) => each >= 0) : facts.shown,
    plan: facts.discrete ? [] : facts.actions.map((action, at) => readShape(told.get(`a${at}`), action)),
    choice: readChoice(told.get("plan") ?? ""),
  };
}

function readShape(said, action) {
  const [shape, ...numbers] = (said ?? "log").split(":");
  const plan = usualPlan(action);
  if (!Object.hasOwn(SHAPES, shape) || numbers.some((each) => !Number.isFinite(+each))) return plan;
  plan.shape = shape;
  SHAPES[shape].parts.forEach((part, at) => {
    const [low, high] = part === "period" ? [2, facts.most] : [action.low, action.high];
    if (at < numbers.length) plan[KEYS[part]] = clamp(+numbers[at], low, high);
  });
  return plan;
}

function readChoice(said) {
  const [shape, numbers = ""] = said.split(":");
  const known = numbers.split(".").map((each) => whole(each, 0, facts.actions.length - 1, 0));
  const each = Array.from({ length: facts.most }, (_, k) => known[Math.min(k, known.length - 1)]);
  return { shape: Object.hasOwn(CHOICES, shape) ? shape : "log", one: known[0], each };
}

function written(state) {
  const short = (value) => String(+value.toPrecision(4));
  const told = { episode: state.episode, frame: state.frame, ahead: state.ahead, features: state.features.join() };
  state.plan.forEach((own, at) => {
    const { parts } = SHAPES[own.shape];
    if (parts.length) told[`a${at}`] = [own.shape, ...parts.map((part) => short(own[KEYS[part]]))].join(":");
  });
  const { shape, one, each } = state.choice;
  if (shape !== "log") told.plan = `${shape}:${shape === "one" ? one : each.slice(0, state.ahead).join(".")}`;
  return Object.entries(told).map((pair) => pair.join("=")).join("&");
}
