// Draw faces over a picture: box, face number, AU bars and attention patches.
export const ACCENT = "#0b62c4";
const ACCENT_DARK = "#5aa9ff";  // accent on a dark background
const PANEL = "rgba(20, 23, 27, .78)";

// faces: [{ box: [x, y, w, h], id, reason, bars: [{ name, value, active }] }]; scale: screen px per frame px.
export function drawFaces(context, faces, scale, width, height, show) {
  for (const face of faces) {
    const [x, y, w, h] = face.box.map((value) => value * scale);
    if (show.box) {
      context.lineWidth = 4; context.strokeStyle = "rgba(0, 0, 0, .55)"; context.strokeRect(x, y, w, h);
      context.lineWidth = 2; context.strokeStyle = face.reason ? "#ffffff" : ACCENT_DARK;
      context.setLineDash(face.reason ? [6, 4] : []);
      context.strokeRect(x, y, w, h);
      context.setLineDash([]);
      label(context, face.reason ? `${face.id}: ${face.reason}` : `${face.id}`, x, y);
    }
    if (show.bars) drawBars(context, face.bars, x, y, w, width, height);
  }
}

function label(context, text, x, y) {
  context.font = "600 12px system-ui, sans-serif";
  const boxWidth = context.measureText(text).width + 8;
  const top = Math.max(0, y - 18);
  context.fillStyle = PANEL; context.fillRect(x - 1, top, boxWidth, 17);
  context.fillStyle = "#fff"; context.fillText(text, x + 3, top + 12.5);
}

function drawBars(context, bars, x, y, w, width, height) {
  const step = Math.min(16, Math.max(10, (height - 8) / bars.length)), boxWidth = 104;
  const boxHeight = step * bars.length + 6;
  const left = x + w + 6 + boxWidth <= width ? x + w + 6 : Math.max(2, x - boxWidth - 6);
  const top = Math.min(Math.max(2, y), Math.max(2, height - boxHeight - 2));
  context.fillStyle = PANEL; context.fillRect(left, top, boxWidth, boxHeight);
  context.font = `${Math.min(11, step - 1)}px system-ui, sans-serif`;
  bars.forEach(({ name, value, active }, i) => {
    const at = top + 3 + i * step;
    context.fillStyle = active ? "#fff" : "#aeb6bf"; context.fillText(name, left + 4, at + step - 4);
    context.fillStyle = "#3a4048"; context.fillRect(left + 40, at + 2, 60, step - 5);
    if (Number.isNaN(value)) return;
    context.fillStyle = active ? ACCENT_DARK : "#87909a"; context.fillRect(left + 40, at + 2, 60 * value, step - 5);
  });
}

// shares: one byte per patch; to_frame: [a, b, c, d, e, f], rows of the matrix from crop to frame.
export function drawPatches(context, { side, to_frame: m }, shares, scale) {
  const grid = Math.round(Math.sqrt(shares.length)), cell = side / grid;
  const maximum = Math.max(1, ...shares);
  context.save();
  context.transform(scale * m[0], scale * m[3], scale * m[1], scale * m[4], scale * m[2], scale * m[5]);
  shares.forEach((share, i) => {
    if (!share) return;
    context.fillStyle = `rgba(0, 158, 255, ${(0.65 * share / maximum).toFixed(3)})`;
    context.fillRect((i % grid) * cell, Math.floor(i / grid) * cell, cell, cell);
  });
  context.restore();
}

// Resize a canvas to the screen's resolution, clear it and return its context in CSS px.
export function fitCanvas(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
