// The video with faces drawn over it, from the table; frames are found by the container's times.
import { drawFaces, drawPatches, fit } from "./paint.js";
import { get, unpack } from "./api.js";
import { h, say } from "./dom.js";

const PICTURES = new Set([".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"]);

export class Player {
  // moved(seconds): another frame is shown.
  constructor(result, names, moved) {
    Object.assign(this, { result, names, moved });
    this.show = { box: true, bars: true, evidence: "" };
    this.kept = new Map();  // evidence by its first frame, 64 frames each
    const source = `/api/results/${result.id}/video`;
    this.still = PICTURES.has(result.suffix);
    this.media = this.still ? h("img", { src: source, alt: result.name }) : h("video", { src: source, preload: "auto", playsinline: "" });
    this.canvas = h("canvas");
    this.element = h("div", { class: "stage" }, this.media, this.canvas);
    this.seconds = 0;
    this.media.addEventListener("error", () => say(`This browser cannot play ${result.name}; the timeline and the files work all the same.`));
    for (const event of ["load", "loadeddata", "seeked", "pause", "timeupdate"]) {
      this.media.addEventListener(event, () => { if (!this.playing) this.at(this.media.currentTime ?? 0); });
    }
    new ResizeObserver(() => this.draw()).observe(this.element);
    if (this.media.requestVideoFrameCallback) this.listen();
  }

  get playing() { return !this.still && !this.media.paused; }

  listen() {
    this.media.requestVideoFrameCallback((_, frame) => { this.at(frame.mediaTime); this.listen(); });
  }

  at(seconds) { this.seconds = seconds; this.draw(); this.moved(seconds); }

  toggle() { if (!this.still) { if (this.media.paused) this.media.play().catch((error) => say(error.message)); else this.media.pause(); } }
  pause() { if (!this.still) this.media.pause(); }

  seek(seconds) {
    if (this.still) return;
    this.wanted = this.table.inside(this.table.frameAt(seconds));
    this.media.currentTime = this.wanted;
    this.at(this.wanted);
  }

  step(frames) {
    this.pause();
    const index = this.table.frameAt(this.seconds) + frames;
    this.seek(this.table.times[Math.min(this.table.times.length - 1, Math.max(0, index))]);
  }

  draw() {
    const natural = this.media.videoWidth || this.media.naturalWidth;
    if (!this.table || !natural) return;
    const width = this.media.clientWidth, height = this.media.clientHeight, scale = width / natural;
    Object.assign(this.canvas.style, { left: `${this.media.offsetLeft}px`, top: `${this.media.offsetTop}px`, width: `${width}px`, height: `${height}px` });
    const context = fit(this.canvas, width, height);
    const index = this.table.frameAt(this.seconds);
    if (this.show.evidence) this.drawEvidence(context, index, scale);
    drawFaces(context, this.faces(index), scale, width, height, this.show);
  }

  faces(index) {
    const { columns } = this.table;
    return this.table.rowsAt(index).map((row) => ({
      id: columns.face_id[row], reason: this.table.reason(row),
      box: ["x", "y", "w", "h"].map((name) => columns[name][row]),
      bars: this.names.map((name) => ({ name, value: columns[name][row],
        active: columns.judged[row] === 1 && columns[name][row] >= Math.fround(this.thresholds[name]) })),
    }));
  }

  drawEvidence(context, index, scale) {
    const frame = this.table.columns.frame[this.table.firstRow[index]];
    const first = 64 * Math.floor(frame / 64);
    const rows = this.kept.get(first);
    if (rows === undefined) { this.fetchEvidence(first); return; }
    for (const row of rows.filter((each) => each.frame === frame)) {
      const count = row.patches.length, j = this.names.indexOf(this.show.evidence);
      drawPatches(context, row, j < 0 ? row.patches : row.attention.subarray(j * count, (j + 1) * count), scale);
    }
  }

  async fetchEvidence(first) {
    this.kept.set(first, []);
    if (this.kept.size > 32) this.kept.delete(this.kept.keys().next().value);
    try {
      const sent = await get(`/api/results/${this.result.id}/evidence?first=${first}`);
      this.kept.set(first, sent.map((row) => ({ ...row, patches: unpack(row.patches), attention: unpack(row.attention) })));
      this.draw();
    } catch (error) { say(error.message); }
  }
}
