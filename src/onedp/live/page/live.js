// The page: states in, drawn and told; mouse and controls out.
import { Scene, readColours } from "/scene.js";

const TURN_PER_WHEEL_PX = 0.004; // [rad]
const ARROW_PX = 14;
const REFUSALS = [401, 403, 503]; // no or another token, a foreign site, all pages taken
const LATENCY_NAMES = {
  0: "none", measured: "measured here", true: "as it thinks", paper: "paper’s, own passes",
  0.016: "16 ms (paper’s 1 step)", 0.075: "75 ms (paper’s DDIM-10)", 0.669: "669 ms (paper’s DDPM)",
};

const find = (id) => document.getElementById(id);
let socket = null;
let lanes = [];
let newest = null;
let controlHz = 50;
let grip = null; // the T in the hand: lane, offset of the hand from the T's origin, the pose it is pulled to

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// --- the connection

function connect() {
  const token = location.hash.slice(1);
  const address = `${location.host}/ws${token ? `?token=${encodeURIComponent(token)}` : ""}`;
  let opened = false;
  socket = new WebSocket(`ws://${address}`);
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "hello") setUp(message);
    else if (message.type === "state") show(message);
    else if (message.type === "error") complain(message.text);
  };
  socket.onopen = () => {
    opened = true;
    find("problem").hidden = true;
    badge(find("connection"), "yes", "connected");
  };
  socket.onclose = () => {
    grip = null;
    badge(find("connection"), "no", "not connected");
    if (!opened) explainRefusal(`http://${address}`);
    setTimeout(connect, 1000);
  };
}

// A browser does not tell why a websocket was refused; the same address, asked for as a page, gives the sentence.
async function explainRefusal(url) {
  try {
    const answer = await fetch(url);
    if (REFUSALS.includes(answer.status)) complain((await answer.text()).trim());
  } catch {
    // nobody is there: "not connected" says it
  }
}

function badge(element, kind, text) {
  if (element.textContent !== text) element.textContent = text;
  element.className = `badge ${kind}`;
}

let quiet = 0;
function complain(text) {
  find("problem").textContent = text;
  find("problem").hidden = false;
  clearTimeout(quiet);
  quiet = setTimeout(() => { find("problem").hidden = true; }, 8000);
  for (const lane of lanes) for (const select of Object.values(lane.selects)) delete select.dataset.asked;
}

// --- lanes

function setUp(hello) {
  find("lanes").replaceChildren();
  controlHz = hello.control_hz;
  lanes = hello.lanes.map((about, index) => {
    const card = find("lane").content.cloneNode(true).firstElementChild;
    card.querySelector("h2").textContent = about.name;
    const scene = new Scene(card.querySelector(".scene"), card.querySelector(".strip"), hello);
    scene.canvas.setAttribute("aria-label", `Push-T of ${about.name}. Arrow keys push the T.`);
    const fields = {};
    for (const element of card.querySelectorAll("[data-show]")) fields[element.dataset.show] = element;
    const selects = {};
    for (const [name, values] of [["latency", hello.latencies], ["executor", about.executors], ["sampler", about.samplers]]) {
      const select = card.querySelector(`select[name=${name}]`);
      for (const value of values) select.add(new Option(name === "latency" ? LATENCY_NAMES[value] || `${value} s` : value, value));
      select.addEventListener("change", () => {
        select.dataset.asked = select.value; // shown until the server has it: it may have to measure first
        send({ type: "change", lane: index, [name]: select.value });
      });
      selects[name] = select;
    }
    find("lanes").append(card);
    const lane = { scene, fields, selects, meter: card.querySelector("meter"), error: card.querySelector(".error") };
    listen(scene, index);
    return lane;
  });
}

function show(state) {
  const now = performance.now() / 1000;
  newest = state;
  find("pause").setAttribute("aria-pressed", state.paused);
  find("pause").textContent = state.paused ? "Go on" : "Pause";
  if (document.activeElement !== find("seed")) find("seed").value = state.seed;
  state.lanes.forEach((lane, i) => {
    lanes[i].scene.add(lane, now, state.paused);
    tell(lanes[i], lane, state.paused);
  });
}

function tell({ fields, selects, meter, error }, lane, paused) {
  const put = (name, text, warn = false) => {
    if (fields[name].textContent !== text) fields[name].textContent = text;
    fields[name].classList.toggle("warn", warn);
  };
  const [kind, text] = status(lane, paused);
  badge(fields.status, kind, text);
  put("passes", `${lane.nfe} network ${lane.nfe === 1 ? "pass" : "passes"} a chunk`);
  put("score", lane.score.toFixed(2));
  put("reward", lane.reward.toFixed(2));
  meter.value = lane.reward;
  const times = lane.solved_times === 1 ? "1 success" : `${lane.solved_times} successes`;
  put("success", lane.solved_after_s === null ? `not yet, ${lane.attempt_s.toFixed(1)} s · ${times}` : `after ${lane.solved_after_s.toFixed(1)} s · ${times}`);
  const slow = !paused && lane.rate_hz > 0 && lane.rate_hz < 0.9 * controlHz;
  put("rate", `${lane.rate_hz.toFixed(1)} Hz${slow ? ` · ${(lane.rate_hz / controlHz).toFixed(2)}×` : ""}`, slow);
  put("chunks", `${lane.chunks_per_s.toFixed(1)} /s`);
  put("delay", lane.delay_ms === null ? "–" : `${lane.delay_ms} ms`);
  put("late", String(lane.counters.dropped));
  put("repeated", String(lane.counters.repeated + lane.counters.starved));
  put("missed", String(lane.counters.deadline_misses), lane.counters.deadline_misses > 0);
  for (const [name, select] of Object.entries(selects)) {
    const value = lane[name];
    if (select.dataset.asked === value) delete select.dataset.asked;
    if (select.dataset.asked === undefined && select.value !== value) {
      if (![...select.options].some((option) => option.value === value)) select.add(new Option(`${value} s`, value));
      select.value = value;
    }
  }
  error.hidden = !lane.error;
  error.textContent = lane.error ? `The policy failed: ${lane.error}` : "";
}

function status(lane, paused) {
  if (lane.error) return ["no", "failed"];
  if (lane.held) return ["wait", "in your hand"];
  if (paused) return ["", "paused"];
  if (lane.solved_after_s !== null) return ["yes", "success"];
  return lane.thinking ? ["", "thinking"] : ["", "acting"];
}

function draw() {
  const now = performance.now() / 1000;
  if (newest) for (const lane of lanes) lane.scene.draw(now);
  pull();
  requestAnimationFrame(draw);
}

// --- the hand

function affected(index) {
  return find("every").checked ? lanes.map((_, i) => i) : [index];
}

function take(index, from) {
  const [x, y, angle] = newest.lanes[index].block;
  grip = { index, lanes: affected(index), offset: [from[0] - x, from[1] - y], pose: [x, y, angle], changed: true };
}

function pull() {
  if (!grip || !grip.changed) return;
  const [x, y, angle] = grip.pose;
  send({ type: "drag", lanes: grip.lanes, x, y, angle });
  grip.changed = false;
}

function letGo() {
  if (!grip) return;
  pull();
  send({ type: "release", lanes: grip.lanes });
  grip = null;
}

function listen(scene, index) {
  const canvas = scene.canvas;
  const isOver = (event) => newest && scene.isOnT(scene.toWorld(event), newest.lanes[index].block);
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !isOver(event)) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    canvas.classList.add("holding");
    take(index, scene.toWorld(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    canvas.classList.toggle("over", Boolean(isOver(event)));
    if (!grip || grip.index !== index || !canvas.hasPointerCapture(event.pointerId)) return;
    const [x, y] = scene.toWorld(event);
    grip.pose = [x - grip.offset[0], y - grip.offset[1], grip.pose[2]];
    grip.changed = true;
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, () => {
      canvas.classList.remove("holding");
      letGo();
    });
  }
  canvas.addEventListener("touchstart", (event) => {
    if (event.touches.length === 1 && isOver(event.touches[0])) event.preventDefault(); // else the finger scrolls
  }, { passive: false });
  canvas.addEventListener("wheel", (event) => {
    if (!grip || grip.index !== index) return;
    event.preventDefault();
    turn(event.deltaY * TURN_PER_WHEEL_PX);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const shift = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!shift || !newest) return;
    event.preventDefault();
    if (!grip) take(index, newest.lanes[index].block);
    grip.pose = [grip.pose[0] + ARROW_PX * shift[0], grip.pose[1] + ARROW_PX * shift[1], grip.pose[2]];
    grip.changed = true;
  });
  canvas.addEventListener("keyup", letGo);
  canvas.addEventListener("blur", letGo);
}

// Turns the T about the point where the hand has it.
function turn(angle) {
  const [x, y, old] = grip.pose, [u, v] = grip.offset;
  const cos = Math.cos(angle), sin = Math.sin(angle);
  const offset = [cos * u - sin * v, sin * u + cos * v];
  grip.pose = [x + u - offset[0], y + v - offset[1], old + angle];
  grip.offset = offset;
  grip.changed = true;
}

// --- the toolbar

find("toolbar").addEventListener("submit", (event) => event.preventDefault());
find("pause").addEventListener("click", () => send({ type: "pause", paused: !(newest && newest.paused) }));
find("again").addEventListener("click", () => send({ type: "reset", seed: newest ? newest.seed : 0 }));
find("next").addEventListener("click", () => send({ type: "reset", seed: newest ? (newest.seed + 1) % 2 ** 32 : 0 }));
find("seed").addEventListener("change", (event) => send({ type: "reset", seed: Math.round(Number(event.target.value)) }));

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
readColours();
connect();
draw();
