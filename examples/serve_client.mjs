// A client of `worldmodel serve` in JavaScript, for Node.js 18 and newer.
//     node examples/serve_client.mjs http://127.0.0.1:8000

const base = process.argv[2];
const token = process.env.WORLDMODEL_TOKEN;
const headers = token ? { Authorization: `Bearer ${token}` } : {};

async function ask(path, body) {
  const options = body && { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(`${base}/v2/models/${path}`, { headers, ...options });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function zeros(name, shape) {
  const count = shape.reduce((product, size) => product * size, 1);
  return { name, shape, datatype: "FP32", data: new Array(count).fill(0) };
}

const { inputs } = await ask("encoder");
const featureCount = inputs.find((each) => each.name === "features").shape[2];
const encoded = await ask("encoder/infer", { inputs: [zeros("features", [1, 1, featureCount])] });
const z = encoded.outputs[0];

const known = (await ask("predictor")).inputs.filter((each) => each.name !== "z");
const plan = known.map((each) => zeros(each.name, [1, 5, each.shape[2]]));
const future = await ask("predictor/infer", {
  parameters: { run_id: encoded.model_version },
  inputs: [{ name: z.name, shape: z.shape, datatype: z.datatype, data: z.data }, ...plan],
});
const features = future.outputs.find((each) => each.name === "features");
console.log("bundle", future.model_version);
console.log("features in 5 frames", features.data.slice(-featureCount));
