// Send camera pictures over a WebSocket and draw the returned rows on their pictures.
import { drawFaces, fitCanvas } from "./paint.js";
import { h, notify } from "./dom.js";

const WIDTH = 640, MAX_UNANSWERED = 3, MAX_PICTURES = 96, QUALITY = 0.8;

export function showCamera(main, about) {
  const canvas = h("canvas", { role: "img", "aria-label": "The camera's picture with the action units drawn on it" });
  const view = h("div", { class: "viewer camera" }, canvas);
  const status = h("p", { class: "faint", role: "status" }, "Pictures are sent only to this Studio and are not stored. Audio is not used.");
  const button = h("button", { class: "main" }, "Start the camera");
  main.append(h("h1", {}, "Camera"), h("div", { class: "row controls" }, button), status, view);
  let session = null;
  const stop = () => { session?.stop(); session = null; button.textContent = "Start the camera"; };
  button.addEventListener("click", async () => {
    if (session) { stop(); return; }
    try {
      session = await start(canvas, (text) => { status.textContent = text; }, stop);
      button.textContent = "Stop the camera";
    } catch (error) { notify(`The camera cannot be used: ${error.message}`); }
  });
  return stop;
}

async function start(canvas, setStatus, onClosed) {
  if (!navigator.mediaDevices) throw new Error("browsers allow it only on a local address or over HTTPS.");
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: WIDTH } } });
  const video = h("video", { muted: true, playsinline: "" });
  video.srcObject = stream;
  await video.play();
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
  socket.binaryType = "arraybuffer";
  const session = new Session(video, socket, canvas, setStatus);
  const stop = () => {
    session.closed = true;
    socket.close();
    stream.getTracks().forEach((track) => track.stop());
  };
  socket.addEventListener("close", (event) => { if (!session.closed) { notify(event.reason || "The connection ended."); onClosed(); } });
  return { stop };
}

class Session {
  constructor(video, socket, canvas, setStatus) {
    Object.assign(this, { video, socket, canvas, setStatus });
    this.names = [];  // AUs of the model, known from the first message
    this.pictures = new Map();  // index -> picture without rows yet
    this.sent = this.answered = this.shown = 0;
    this.closed = false;
    const height = Math.round(WIDTH * video.videoHeight / video.videoWidth);
    this.captureCanvas = h("canvas", { width: WIDTH, height });
    socket.addEventListener("message", (event) => this.onMessage(JSON.parse(event.data)));
  }

  onMessage(message) {
    if (message.thresholds) { this.thresholds = message.thresholds; this.names = Object.keys(message.thresholds); this.startedMs = performance.now(); this.captureLoop(); return; }
    this.answered = message.index + 1;
    const last = message.rows.at(-1)?.frame;
    if (last !== undefined) this.draw(last, message.rows.filter((row) => row.frame === last));
  }

  async captureLoop() {
    while (!this.closed) {
      await new Promise((done) => { if (document.hidden) setTimeout(done, 200); else requestAnimationFrame(done); });
      const isNewFrame = this.video.currentTime !== this.lastTime;
      if (isNewFrame && this.sent - this.answered < MAX_UNANSWERED && this.socket.readyState === WebSocket.OPEN) await this.send();
    }
  }

  async send() {
    this.lastTime = this.video.currentTime;
    const seconds = (performance.now() - this.startedMs) / 1000;
    this.captureCanvas.getContext("2d").drawImage(this.video, 0, 0, this.captureCanvas.width, this.captureCanvas.height);
    const picture = await createImageBitmap(this.captureCanvas);
    const jpeg = await new Promise((done) => this.captureCanvas.toBlob(done, "image/jpeg", QUALITY));
    const message = new Uint8Array(8 + jpeg.size);
    new DataView(message.buffer).setFloat64(0, seconds, true);
    message.set(new Uint8Array(await jpeg.arrayBuffer()), 8);
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.pictures.set(this.sent++, picture);
    if (this.pictures.size > MAX_PICTURES) this.releasePicture(this.pictures.keys().next().value);
    this.socket.send(message);
  }

  releasePicture(index) { this.pictures.get(index)?.close(); this.pictures.delete(index); }

  draw(index, rows) {
    const picture = this.pictures.get(index);
    if (!picture) return;
    const width = Math.min(this.canvas.parentElement.clientWidth, WIDTH), scale = width / picture.width, height = picture.height * scale;
    Object.assign(this.canvas.style, { position: "static", width: `${width}px`, height: `${height}px` });
    const context = fitCanvas(this.canvas, width, height);
    context.drawImage(picture, 0, 0, width, height);
    const detected = rows.filter((row) => row.success);
    const faces = detected.map((row) => ({ id: row.face_id, reason: row.reason, box: [row.x, row.y, row.w, row.h],
      bars: this.names.map((name) => ({ name, value: row[name] ?? NaN, active: row[`${name}_c`] === 1 })) }));
    drawFaces(context, faces, scale, width, height, { box: true, bars: true });
    for (const oldIndex of [...this.pictures.keys()]) if (oldIndex <= index) this.releasePicture(oldIndex);
    this.shown += 1;
    this.canvas.dataset.shown = this.shown;
    if (this.shown % 5 === 1) {
      const active = detected.flatMap((row) => this.names.filter((name) => row[`${name}_c`] === 1));
      this.setStatus(`${(1000 * this.sent / (performance.now() - this.startedMs)).toFixed(0)} pictures per second. ${detected.length ? `Active: ${active.join(", ") || "none"}` : "No face."}`);
    }
  }
}
