// Draw one lane per AU below the player: its probability, highlighted while active, its threshold and, as a line, its intensity.
import { ACCENT, fitCanvas } from "./paint.js";
import { h } from "./dom.js";

const MAX_INTENSITY = 5, INTENSITY = "#7a2d5e";

export class Timeline {
  // aus: meaning by AU; thresholds: by AU of the result. onChange(): called when a threshold changes; seek(seconds): called when a lane is clicked.
  constructor(name, aus, thresholds, seek, onChange) {
    this.names = Object.keys(thresholds);
    this.defaultThresholds = { ...thresholds };
    this.thresholds = { ...thresholds };
    this.playheads = [];
    this.canvases = {};
    const lanes = this.names.map((au) => this.lane(au, aus[au], onChange));
    this.element = h("section", { class: "card lanes", "aria-label": `Timeline of ${name}` }, ...lanes);
    this.element.addEventListener("click", (event) => {
      if (event.target.tagName !== "CANVAS" || !this.table) return;
      const box = event.target.getBoundingClientRect();
      seek(this.table.startTime + this.table.duration * (event.clientX - box.left) / box.width);
    });
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  lane(name, meaning, onChange) {
    const canvas = h("canvas", { "data-au": name });
    const playhead = h("div");
    const valueLabel = h("output", {}, this.thresholds[name].toFixed(2));
    const slider = h("input", { type: "range", min: "0.01", max: "1", step: "0.01", "aria-label": `Threshold of ${name}, ${meaning}` });
    slider.value = this.thresholds[name];
    slider.addEventListener("input", () => {
      this.thresholds[name] = Number(slider.value);
      valueLabel.value = this.thresholds[name].toFixed(2);
      this.drawLane(name);
      onChange();
    });
    this.canvases[name] = { canvas, slider, valueLabel };
    this.playheads.push(playhead);
    return h("div", { class: "lane" }, h("div", { class: "au" }, h("strong", {}, name), " ", h("span", { class: "meaning faint" }, meaning)),
      h("div", { class: "seek" }, canvas, playhead), h("div", { class: "threshold" }, slider, valueLabel));
  }

  reset() {
    this.thresholds = { ...this.defaultThresholds };
    for (const [name, { slider, valueLabel }] of Object.entries(this.canvases)) {
      slider.value = this.defaultThresholds[name];
      valueLabel.value = this.defaultThresholds[name].toFixed(2);
    }
    this.draw();
  }

  show(table, face) {
    this.table = table;
    this.rows = [];
    for (let row = 0; row < table.rows; row++) if (table.columns.face_id[row] === face) this.rows.push(row);
    this.draw();
  }

  moveTo(seconds) {
    const share = this.table?.duration ? (seconds - this.table.startTime) / this.table.duration : 0;
    for (const playhead of this.playheads) playhead.style.left = `${100 * Math.min(1, Math.max(0, share))}%`;
  }

  draw() { if (this.table) this.names.forEach((name) => this.drawLane(name)); }

  drawLane(name) {
    const { canvas } = this.canvases[name];
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !this.table) return;
    const context = fitCanvas(canvas, width, height);
    const { timestamp, judged, [name]: values, [`${name}_r`]: intensities } = this.table.columns;
    const highest = new Float32Array(width).fill(-1), scored = new Uint8Array(width);
    const strongest = new Float32Array(width).fill(-1);
    this.rows.forEach((row, i) => {
      if (Number.isNaN(values[row])) return;
      const pixelAt = (seconds) => Math.floor(width * (seconds - this.table.startTime) / (this.table.duration || 1));
      const from = Math.max(0, pixelAt(timestamp[row]));
      const next = this.rows[i + 1] === undefined ? this.table.startTime + this.table.duration : timestamp[this.rows[i + 1]];
      const to = Math.min(width - 1, Math.max(from, pixelAt(Math.min(next, timestamp[row] + 0.25)) - 1));
      for (let x = from; x <= to; x++) {
        if (values[row] > highest[x]) { highest[x] = values[row]; scored[x] = judged[row]; }
        if (intensities && intensities[row] > strongest[x]) strongest[x] = intensities[row];
      }
    });
    const threshold = this.thresholds[name];
    for (let x = 0; x < width; x++) {
      if (highest[x] < 0) continue;
      const on = scored[x] && highest[x] >= Math.fround(threshold);
      if (on) { context.fillStyle = "#dbe8f8"; context.fillRect(x, 0, 1, height); }
      context.fillStyle = on ? ACCENT : scored[x] ? "#a9b4c0" : "#d9dee4";
      const high = Math.max(1, highest[x] * height);
      context.fillRect(x, height - high, 1, high);
    }
    if (intensities) drawIntensity(context, strongest, height);
    context.strokeStyle = "#57606a"; context.setLineDash([3, 3]);
    context.beginPath(); context.moveTo(0, height * (1 - threshold)); context.lineTo(width, height * (1 - threshold)); context.stroke();
    context.setLineDash([]);
  }
}

// strongest: intensity 0 to 5 by pixel, -1 where unknown; the line is interrupted there.
function drawIntensity(context, strongest, height) {
  context.beginPath();
  strongest.forEach((value, x) => {
    const y = height * (1 - value / MAX_INTENSITY);
    if (value >= 0) context[x > 0 && strongest[x - 1] >= 0 ? "lineTo" : "moveTo"](x + 0.5, y);
  });
  for (const [colour, width] of [["#fff", 3], [INTENSITY, 1]]) {  // the white edge separates it from the bars
    context.strokeStyle = colour; context.lineWidth = width;
    context.stroke();
  }
}
