// Play the video with faces drawn over it; frames are located by the container's times.
import { drawFaces, drawPatches, fitCanvas } from "./paint.js";
import { get, unpack } from "./api.js";
import { h, notify } from "./dom.js";

const IMAGE_SUFFIXES = new Set([".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"]);

export class Player {
  // onFrame(seconds): called when another frame is shown.
  constructor(result, names, onFrame) {
    Object.assign(this, { result, names, onFrame });
    this.show = { box: true, bars: true, attributions: "" };
    this.attributionCache = new Map();  // attributions by first frame, 64 frames each
    const source = `/api/results/${result.id}/video`;
    this.isImage = IMAGE_SUFFIXES.has(result.suffix);
    this.media = this.isImage ? h("img", { src: source, alt: result.name }) : h("video", { src: source, preload: "auto", playsinline: "" });
    this.canvas = h("canvas");
    this.element = h("div", { class: "viewer" }, this.media, this.canvas);
    this.seconds = 0;
    this.media.addEventListener("error", () => notify(`This browser cannot play ${result.name}; the timeline and the downloads still work.`));
    for (const event of ["load", "loadeddata", "seeked", "pause", "timeupdate"]) {
      this.media.addEventListener(event, () => { if (!this.playing) this.setTime(this.media.currentTime ?? 0); });
    }
    new ResizeObserver(() => this.draw()).observe(this.element);
    if (this.media.requestVideoFrameCallback) this.followFrames();
  }

  get playing() { return !this.isImage && !this.media.paused; }

  followFrames() {
    this.media.requestVideoFrameCallback((_, frame) => { this.setTime(frame.mediaTime); this.followFrames(); });
  }

  setTime(seconds) { this.seconds = seconds; this.draw(); this.onFrame(seconds); }

  toggle() { if (!this.isImage) { if (this.media.paused) this.media.play().catch((error) => notify(error.message)); else this.media.pause(); } }
  pause() { if (!this.isImage) this.media.pause(); }

  seek(seconds) {
    if (this.isImage) return;
    this.targetTime = this.table.seekTime(this.table.frameAt(seconds));
    this.media.currentTime = this.targetTime;
    this.setTime(this.targetTime);
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
    const context = fitCanvas(this.canvas, width, height);
    const index = this.table.frameAt(this.seconds);
    if (this.show.attributions) this.drawAttributions(context, index, scale);
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

  drawAttributions(context, index, scale) {
    const frame = this.table.columns.frame[this.table.firstRow[index]];
    const first = 64 * Math.floor(frame / 64);
    const rows = this.attributionCache.get(first);
    if (rows === undefined) { this.fetchAttributions(first); return; }
    for (const row of rows.filter((each) => each.frame === frame)) {
      const count = row.patches.length, j = this.names.indexOf(this.show.attributions);
      drawPatches(context, row, j < 0 ? row.patches : row.attention.subarray(j * count, (j + 1) * count), scale);
    }
  }

  async fetchAttributions(first) {
    this.attributionCache.set(first, []);
    if (this.attributionCache.size > 32) this.attributionCache.delete(this.attributionCache.keys().next().value);
    try {
      const received = await get(`/api/results/${this.result.id}/evidence?first=${first}`);
      this.attributionCache.set(first, received.map((row) => ({ ...row, patches: unpack(row.patches), attention: unpack(row.attention) })));
      this.draw();
    } catch (error) { notify(error.message); }
  }
}
