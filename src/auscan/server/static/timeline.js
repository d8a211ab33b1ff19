// Below the player: a lane a face and AU with its probability, lit where it is active, and its threshold.
import { ACCENT, fit } from "./paint.js";
import { h } from "./dom.js";

export class Timeline {
  // changed(): a threshold moved; seek(seconds): a lane was clicked.
  constructor(name, aus, thresholds, seek, changed) {
    this.names = Object.keys(aus);
    this.usual = { ...thresholds };
    this.thresholds = { ...thresholds };
    this.heads = [];
    this.canvases = {};
    const lanes = this.names.map((au) => this.lane(au, aus[au], changed));
    this.element = h("section", { class: "card lanes", "aria-label": `Timeline of ${name}` }, ...lanes);
    this.element.addEventListener("click", (event) => {
      if (event.target.tagName !== "CANVAS" || !this.table) return;
      const box = event.target.getBoundingClientRect();
      seek(this.table.begin + this.table.duration * (event.clientX - box.left) / box.width);
    });
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  lane(name, meaning, changed) {
    const canvas = h("canvas", { "data-au": name });
    const head = h("div");
    const shown = h("output", {}, this.thresholds[name].toFixed(2));
    const slider = h("input", { type: "range", min: "0.01", max: "1", step: "0.01", "aria-label": `Threshold of ${name}, ${meaning}` });
    slider.value = this.thresholds[name];
    slider.addEventListener("input", () => {
      this.thresholds[name] = Number(slider.value);
      shown.value = this.thresholds[name].toFixed(2);
      this.drawLane(name);
      changed();
    });
    this.canvases[name] = { canvas, slider, shown };
    this.heads.push(head);
    return h("div", { class: "lane" }, h("div", { class: "au" }, h("strong", {}, name), " ", h("span", { class: "meaning faint" }, meaning)),
      h("div", { class: "seek" }, canvas, head), h("div", { class: "cut" }, slider, shown));
  }

  reset() {
    this.thresholds = { ...this.usual };
    for (const [name, { slider, shown }] of Object.entries(this.canvases)) {
      slider.value = this.usual[name];
      shown.value = this.usual[name].toFixed(2);
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
    const share = this.table?.duration ? (seconds - this.table.begin) / this.table.duration : 0;
    for (const head of this.heads) head.style.left = `${100 * Math.min(1, Math.max(0, share))}%`;
  }

  draw() { if (this.table) this.names.forEach((name) => this.drawLane(name)); }

  drawLane(name) {
    const { canvas } = this.canvases[name];
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !this.table) return;
    const context = fit(canvas, width, height);
    const { timestamp, judged, [name]: values } = this.table.columns;
    const most = new Float32Array(width).fill(-1), known = new Uint8Array(width);
    this.rows.forEach((row, i) => {
      if (Number.isNaN(values[row])) return;
      const at = (seconds) => Math.floor(width * (seconds - this.table.begin) / (this.table.duration || 1));
      const from = Math.max(0, at(timestamp[row]));
      const next = this.rows[i + 1] === undefined ? this.table.begin + this.table.duration : timestamp[this.rows[i + 1]];
      const to = Math.min(width - 1, Math.max(from, at(Math.min(next, timestamp[row] + 0.25)) - 1));
      for (let x = from; x <= to; x++) {
        if (values[row] > most[x]) { most[x] = values[row]; known[x] = judged[row]; }
      }
    });
    const cut = this.thresholds[name];
    for (let x = 0; x < width; x++) {
      if (most[x] < 0) continue;
      const on = known[x] && most[x] >= Math.fround(cut);
      if (on) { context.fillStyle = "#dbe8f8"; context.fillRect(x, 0, 1, height); }
      context.fillStyle = on ? ACCENT : known[x] ? "#a9b4c0" : "#d9dee4";
      const high = Math.max(1, most[x] * height);
      context.fillRect(x, height - high, 1, high);
    }
    context.strokeStyle = "#57606a"; context.setLineDash([3, 3]);
    context.beginPath(); context.moveTo(0, height * (1 - cut)); context.lineTo(width, height * (1 - cut)); context.stroke();
    context.setLineDash([]);
  }
}
