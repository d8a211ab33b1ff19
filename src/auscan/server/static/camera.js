// The camera: pictures go over a WebSocket, rows come back and are drawn on the picture they belong to.
import { drawFaces, fit } from "./paint.js";
import { h, say } from "./dom.js";

const WIDTH = 640, AHEAD = 3, KEPT = 96, QUALITY = 0.8;

export function showCamera(main, about) {
  const names = Object.keys(about.aus);
  const canvas = h("canvas", { role: "img", "aria-label": "The camera's picture with the action units drawn on it" });
  const stage = h("div", { class: "stage camera" }, canvas);
  const words = h("p", { class: "faint", role: "status" }, "The picture goes to this Studio and nowhere else; nothing is kept. The face is read without sound.");
  const button = h("button", { class: "main" }, "Start the camera");
  main.append(h("h1", {}, "Camera"), h("div", { class: "row controls" }, button), words, stage);
  let session = null;
  const stop = () => { session?.stop(); session = null; button.textContent = "Start the camera"; };
  button.addEventListener("click", async () => {
    if (session) { stop(); return; }
    try {
      session = await start(canvas, names, (text) => { words.textContent = text; }, stop);
      button.textContent = "Stop the camera";
    } catch (error) { say(`The camera cannot be used: ${error.message}`); }
  });
  return stop;
}

async function start(canvas, names, tell, ended) {
  if (!navigator.mediaDevices) throw new Error("browsers allow it on this machine's own address or over HTTPS alone.");
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: WIDTH } } });
  const video = h("video", { muted: true, playsinline: "" });
  video.srcObject = stream;
  await video.play();
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
  socket.binaryType = "arraybuffer";
  const session = new Session(video, socket, canvas, names, tell);
  const stop = () => {
    session.over = true;
    socket.close();
    stream.getTracks().forEach((track) => track.stop());
  };
  socket.addEventListener("close", (event) => { if (!session.over) { say(event.reason || "The connection ended."); ended(); } });
  return { stop };
}

class Session {
  constructor(video, socket, canvas, names, tell) {
    Object.assign(this, { video, socket, canvas, names, tell });
    this.pictures = new Map();  // index -> picture that waits for its rows
    this.sent = this.answered = this.shown = 0;
    this.over = false;
    const height = Math.round(WIDTH * video.videoHeight / video.videoWidth);
    this.sheet = h("canvas", { width: WIDTH, height });
    socket.addEventListener("message", (event) => this.hear(JSON.parse(event.data)));
  }

  hear(message) {
    if (message.thresholds) { this.thresholds = message.thresholds; this.began = performance.now(); this.loop(); return; }
    this.answered = message.index + 1;
    const last = message.rows.at(-1)?.frame;
    if (last !== undefined) this.draw(last, message.rows.filter((row) => row.frame === last));
  }

  async loop() {
    while (!this.over) {
      await new Promise((done) => { if (document.hidden) setTimeout(done, 200); else requestAnimationFrame(done); });
      const fresh = this.video.currentTime !== this.lastTime;
      if (fresh && this.sent - this.answered < AHEAD && this.socket.readyState === WebSocket.OPEN) await this.send();
    }
  }

  async send() {
    this.lastTime = this.video.currentTime;
    const seconds = (performance.now() - this.began) / 1000;
    this.sheet.getContext("2d").drawImage(this.video, 0, 0, this.sheet.width, this.sheet.height);
    const picture = await createImageBitmap(this.sheet);
    const jpeg = await new Promise((done) => this.sheet.toBlob(done, "image/jpeg", QUALITY));
    const message = new Uint8Array(8 + jpeg.size);
    new DataView(message.buffer).setFloat64(0, seconds, true);
    message.set(new Uint8Array(await jpeg.arrayBuffer()), 8);
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.pictures.set(this.sent++, picture);
    if (this.pictures.size > KEPT) this.forget(this.pictures.keys().next().value);
    this.socket.send(message);
  }

  forget(index) { this.pictures.get(index)?.close(); this.pictures.delete(index); }

  draw(index, rows) {
    const picture = this.pictures.get(index);
    if (!picture) return;
    const width = Math.min(this.canvas.parentElement.clientWidth, WIDTH), scale = width / picture.width, height = picture.height * scale;
    Object.assign(this.canvas.style, { position: "static", width: `${width}px`, height: `${height}px` });
    const context = fit(this.canvas, width, height);
    context.drawImage(picture, 0, 0, width, height);
    const seen = rows.filter((row) => row.success);
    const faces = seen.map((row) => ({ id: row.face_id, reason: row.reason, box: [row.x, row.y, row.w, row.h],
      bars: this.names.map((name) => ({ name, value: row[name] ?? NaN, active: row[`${name}_c`] === 1 })) }));
    drawFaces(context, faces, scale, width, height, { box: true, bars: true });
    for (const old of [...this.pictures.keys()]) if (old <= index) this.forget(old);
    this.shown += 1;
    this.canvas.dataset.shown = this.shown;
    if (this.shown % 5 === 1) {
      const active = seen.flatMap((row) => this.names.filter((name) => row[`${name}_c`] === 1));
      this.tell(`${(1000 * this.sent / (performance.now() - this.began)).toFixed(0)} pictures a second. ${seen.length ? `Active: ${active.join(", ") || "none"}` : "No face."}`);
    }
  }
}
