// What a lane looks like: the scene and the strip of its last seconds. Draws, and knows where the T is; nothing else.

export const STRIP_S = 10;
const TRAIL_S = 3;
const GRIP_PX = 8; // so near to the T still counts as on it

const colours = {};
const NAMES = ["field", "wall", "goal", "goal-line", "tee", "tee-line", "held", "agent", "plan", "target", "muted", "acting", "holding", "missed", "still"];

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of NAMES) colours[name] = style.getPropertyValue(`--${name}`).trim();
}

export class Scene {
  constructor(canvas, strip, world) {
    this.canvas = canvas;
    this.strip = strip;
    this.world = world;
    this.trail = [];
    this.events = [];
  }

  // Positions of the page in the simulation's pixels.
  toWorld(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.world.workspace / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  isOnT([x, y], [bx, by, angle]) {
    const cos = Math.cos(angle), sin = Math.sin(angle);
    const u = cos * (x - bx) + sin * (y - by), v = -sin * (x - bx) + cos * (y - by);
    return this.world.t.some((corners) => {
      const xs = corners.map((c) => c[0]), ys = corners.map((c) => c[1]);
      return u > Math.min(...xs) - GRIP_PX && u < Math.max(...xs) + GRIP_PX && v > Math.min(...ys) - GRIP_PX && v < Math.max(...ys) + GRIP_PX;
    });
  }

  // Remember a state for trail and strip.
  add(lane, now, paused) {
    const last = this.last;
    this.last = lane;
    if (!last || lane.seed !== last.seed || lane.tick < last.tick) this.trail = [];
    this.trail.push([now, ...lane.agent]);
    while (this.trail.length && now - this.trail[0][0] > TRAIL_S) this.trail.shift();
    if (last && !paused) {
      const more = (name) => lane.counters[name] > last.counters[name];
      const resting = lane.solved_after_s !== null && !lane.held;
      const kind = lane.tick === last.tick ? "still" : resting ? "goal-line" : more("deadline_misses") ? "missed" : more("repeated") || more("starved") ? "holding" : "acting";
      this.events.push([now, kind]);
    }
    while (this.events.length && now - this.events[0][0] > STRIP_S) this.events.shift();
  }

  draw(now) {
    if (!this.last) return;
    const context = fitted(this.canvas, this.world.workspace);
    const { goal, workspace, wall, agent_radius: radius } = this.world;
    const lane = this.last;
    context.fillStyle = colours.field;
    context.fillRect(0, 0, workspace, workspace);
    context.strokeStyle = colours.wall;
    context.lineWidth = 4;
    context.strokeRect(wall, wall, workspace - 2 * wall - 1, workspace - 2 * wall - 1);
    this.drawT(context, goal, colours.goal, colours["goal-line"]);
    this.drawT(context, lane.block, lane.held ? colours.held : colours.tee, colours["tee-line"]);
    this.drawTrail(context, now);
    circle(context, lane.agent, radius, colours.agent);
    lane.plan.forEach((point, i) => {
      context.globalAlpha = 1 - (0.75 * i) / lane.plan.length;
      circle(context, point, 3.6, colours.plan);
    });
    context.globalAlpha = 1;
    if (lane.target) cross(context, lane.target, colours.target);
    this.drawStrip(now);
  }

  drawT(context, [x, y, angle], fill, line) {
    context.save();
    context.translate(x, y);
    context.rotate(angle);
    const [bar, stem] = this.world.t;
    context.beginPath(); // one outline: along the bar, then round the stem
    for (const [i, corner] of [bar[0], bar[1], bar[2], stem[1], stem[2], stem[3], stem[0], bar[3]].entries()) {
      context[i ? "lineTo" : "moveTo"](...corner);
    }
    context.closePath();
    context.fillStyle = fill;
    context.fill();
    context.lineJoin = "round";
    context.lineWidth = 1.5;
    context.strokeStyle = line;
    context.stroke();
    context.restore();
  }

  drawTrail(context, now) {
    context.strokeStyle = colours.agent;
    context.lineWidth = 3;
    context.lineCap = "butt";
    for (let i = 1; i < this.trail.length; i += 1) {
      const [then, x, y] = this.trail[i], [, fromX, fromY] = this.trail[i - 1];
      context.globalAlpha = Math.max(0, 0.55 * (1 - (now - then) / TRAIL_S));
      context.beginPath();
      context.moveTo(fromX, fromY);
      context.lineTo(x, y);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  drawStrip(now) {
    const width = this.strip.clientWidth;
    const context = fitted(this.strip, width);
    context.clearRect(0, 0, width, this.strip.clientHeight);
    this.events.forEach(([then, kind], i) => {
      const end = i + 1 < this.events.length ? this.events[i + 1][0] : now;
      const x = (then) => Math.round(width * (1 - (now - then) / STRIP_S)); // whole pixels leave no seams
      context.fillStyle = colours[kind];
      context.fillRect(x(then), 0, Math.max(1, x(end) - x(then)), this.strip.clientHeight);
    });
  }
}

// The context of a canvas whose own pixels are the screen's, in units of which the width has `units`.
function fitted(canvas, units) {
  const density = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * density), height = Math.round(canvas.clientHeight * density);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.setTransform(width / units, 0, 0, width / units, 0, 0);
  return context;
}

function circle(context, [x, y], radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function cross(context, [x, y], colour) {
  context.strokeStyle = colour;
  context.lineWidth = 2.5;
  context.beginPath();
  context.moveTo(x - 6, y - 6);
  context.lineTo(x + 6, y + 6);
  context.moveTo(x + 6, y - 6);
  context.lineTo(x - 6, y + 6);
  context.stroke();
}
