// What the page carries, and the graphs that run in it.
const text = (id) => document.getElementById(id).textContent;
const facts = JSON.parse(text("facts"));

async function bytes(id) {
  const packed = atob(text(id));
  const array = new Uint8Array(packed.length);
  for (let at = 0; at < packed.length; at++) array[at] = packed.charCodeAt(at);
  const stream = new Blob([array]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// One logged episode: features [T, F]; moves [T, A + C + 1] are actions, context and reward.
class Episode {
  constructor(told, features, moves) {
    Object.assign(this, told, { features, moves });
  }
  feature(frame, number) {
    return this.features[frame * facts.features.length + number];
  }
  frame(at) {
    const width = facts.features.length;
    return this.features.subarray(at * width, (at + 1) * width);
  }
  action(at) {
    return this.#move(at, 0, facts.actions.length);
  }
  context(at) {
    return this.#move(at, facts.actions.length, facts.context);
  }
  reward(at) {
    return this.#move(at, facts.actions.length + facts.context, 1)[0];
  }
  // The log ends with a frame that no action follows: the one before goes on.
  logged(from, count) {
    return Array.from({ length: count }, (_, k) => this.action(Math.max(0, Math.min(from + k, this.frames - 2))));
  }
  #move(at, from, count) {
    const start = at * (facts.actions.length + facts.context + 1) + from;
    return this.moves.subarray(start, start + count);
  }
}

async function readEpisodes() {
  const Numbers = facts.float64 ? Float64Array : Float32Array;
  const [features, moves] = [new Numbers(await bytes("frames")), new Float32Array(await bytes("moves"))];
  const widths = [facts.features.length, facts.actions.length + facts.context + 1];
  let begin = 0;
  return facts.episodes.map((told) => {
    const [from, to] = [begin, (begin += told.frames)];
    const part = (array, width) => array.subarray(from * width, to * width);
    return new Episode(told, part(features, widths[0]), part(moves, widths[1]));
  });
}

class Model {
  static async open() {
    if (typeof WebAssembly !== "object") throw new Error("this browser has no WebAssembly, or it is switched off");
    if (typeof DecompressionStream !== "function") throw new Error("this browser is too old (no DecompressionStream)");
    const model = new Model();
    model.ort = await import(`data:text/javascript;base64,${text("runtime")}`);
    Object.assign(model.ort.env.wasm, { numThreads: 1, wasmBinary: await bytes("wasm") });
    for (const name of ["encoder", "predictor"]) {
      try {
        model[name] = await model.ort.InferenceSession.create(await bytes(name), { executionProviders: ["wasm"] });
      } catch (error) {
        throw new Error(`${name}.onnx cannot be loaded: ${error.message ?? error}`);
      }
    }
    return model;
  }

  // z of what was seen up to a frame. In front of the log's first frame that one stands still, without actions.
  async encode(episode, frame) {
    const rows = Array.from({ length: facts.history }, (_, at) => frame - facts.history + 1 + at);
    const none = new Float32Array(facts.actions.length);
    const seen = rows.slice(0, -1);
    const inputs = {
      features: this.#tensor(rows.map((row) => episode.frame(Math.max(row, 0))), [1, rows.length], facts.float64),
      actions: this.#tensor(seen.map((row) => (row < 0 ? none : episode.action(row))), [1, seen.length]),
      context: this.#tensor(seen.map((row) => episode.context(Math.max(row, 0))), [1, seen.length]),
    };
    return (await this.#run(this.encoder, inputs)).z.data;
  }

  // One future a plan; plans [P][K][A], context [K][C], the same for all.
  async predict(z, plans, context) {
    const [count, ahead] = [plans.length, context.length];
    const whole = facts.longest ?? ahead;
    const filled = (rows) => Array.from({ length: whole }, (_, k) => rows[Math.min(k, ahead - 1)]);
    const answers = await this.#run(this.predictor, {
      z: this.#tensor(plans.map(() => z), [count]),
      actions: this.#tensor(plans.flatMap(filled), [count, whole]),
      context: this.#tensor(plans.flatMap(() => filled(context)), [count, whole]),
    });
    return plans.map((_, plan) => {
      const future = {};
      for (const [name, { data, dims }] of Object.entries(answers)) {
        const width = dims.length === 3 ? dims[2] : 1;
        const own = data.subarray(plan * whole * width, (plan * whole + ahead) * width);
        const rows = Array.from({ length: ahead }, (_, k) => own.subarray(k * width, (k + 1) * width));
        future[name] = dims.length === 3 ? rows.map((row) => Array.from(row)) : Array.from(own);
      }
      return { ...future, ...summed(future, ahead) };
    });
  }

  async #run(graph, inputs) {
    return graph.run(Object.fromEntries(graph.inputNames.map((name) => [name, inputs[name]])));
  }

  #tensor(rows, dims, double = false) {
    const width = rows.length ? rows[0].length : 0;
    const data = new (double ? Float64Array : Float32Array)(rows.length * width);
    rows.forEach((row, at) => data.set(row, at * width));
    return new this.ort.Tensor(double ? "float64" : "float32", data, [...dims, width]);
  }
}

// What is summed over a plan counts as far as the task has not ended.
function summed({ reward, disagreement, termination }, ahead) {
  let [alive, earned] = [1, 0];
  for (let k = 0; k < ahead; k++) {
    earned += reward ? reward[k] * alive : 0;
    alive *= termination ? 1 - termination[k] : 1;
  }
  return {
    return: reward && earned,
    doubt: disagreement && disagreement.reduce((sum, each) => sum + each, 0) / ahead,
    ended: termination && 1 - alive,
  };
}
