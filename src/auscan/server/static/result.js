// Show one result, or two side by side with linked playback.
import { get } from "./api.js";
import { h, notify, formatTime } from "./dom.js";
import { EventList } from "./events.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";
import { loadTable } from "./table.js";

const FORMATS = { openface: "OpenFace", pyfeat: "py-feat", elan: "ELAN", textgrid: "Praat", bids: "BIDS", wide: "SPSS, R", jsonl: "JSON Lines" };

export async function showResults(main, about, ids) {
  const views = await Promise.all(ids.map(async (id, i) => new ResultView(await get(`/api/results/${id}`), about, ids.length > 1 ? `${i + 1}: ` : "")));
  const linkedCheckbox = h("input", { type: "checkbox", checked: true });
  main.append(h("div", { class: `views${views.length > 1 ? " two" : ""}` }, ...views.map((view) => view.element)));
  if (views.length > 1) main.prepend(h("p", { class: "row" }, h("label", {}, linkedCheckbox, "play and seek together")));
  main.append(h("p", { class: "faint" }, ...keyHelp()));
  const selectedViews = (view) => (views.length > 1 && linkedCheckbox.checked ? views : [view]);
  views.forEach((view) => { view.linkedViews = () => selectedViews(view); });
  let focusedView = views[0];
  main.addEventListener("focusin", (event) => { focusedView = views.find((view) => view.element.contains(event.target)) ?? focusedView; });
  const onKey = (event) => { if (views.every((view) => view.table)) handleKey(event, selectedViews(focusedView)); };
  addEventListener("keydown", onKey);
  Promise.all(views.map((view) => view.load())).catch((error) => notify(error.message));
  return () => { removeEventListener("keydown", onKey); views.forEach((view) => view.player.pause()); };
}

const KEYS = { " ": (view) => view.player.toggle(), ArrowLeft: (view) => view.player.step(-1), ArrowRight: (view) => view.player.step(1),
  "[": (view) => view.seekEvent(-1), "]": (view) => view.seekEvent(1) };

function handleKey(event, views) {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.matches("input, select, textarea") || (event.key === " " && target.matches("button, a"))) return;
  if (!(event.key in KEYS)) return;
  event.preventDefault();
  views.forEach((view) => KEYS[event.key](view));
}

function keyHelp() {
  const words = [[["Space"], "play"], [["←", "→"], "frame"], [["[", "]"], "event"]];
  return ["Keys: ", ...words.flatMap(([keys, what]) => [...keys.map((name) => h("kbd", {}, name)), ` ${what}  `])];
}

class ResultView {
  // label: "1: " or "2: " if two results are shown; part of the accessible names.
  constructor(result, about, label) {
    const name = `${label}${result.name}`;
    Object.assign(this, { result, about, names: Object.keys(result.summary.thresholds) });
    this.linkedViews = () => [this];
    this.baseline = result.summary.baseline ?? "none";
    this.events = new EventList(name, (seconds) => this.seek(seconds));
    this.player = new Player(result, this.names, (seconds) => this.onFrame(seconds));
    this.timeline = new Timeline(name, about.aus, result.summary.thresholds, (seconds) => this.seek(seconds), () => this.onThresholdsChanged());
    this.player.thresholds = this.timeline.thresholds;
    this.time = h("span", { class: "time" });
    this.face = h("select", { "aria-label": "Face", onchange: () => this.showFace() });
    this.files = h("div", { class: "downloads" });
    const top = h("div", { class: "top" }, h("div", {}, this.player.element, this.playbackButtons()), this.events.element);
    this.element = h("section", { class: "result", "aria-label": name }, h("h1", {}, result.name), this.describeResult(), top,
      this.displayOptions(), this.timeline.element, h("h2", {}, "Download"), this.files);
  }

  describeResult() {
    const { summary } = this.result;
    const coverage = summary.coverage == null ? "" : `, a face in ${Math.round(100 * summary.coverage)} % of the frames`;
    return h("p", { class: "faint" }, `${summary.frames} frames, ${summary.duration_s.toFixed(1)} s, faces: ${summary.faces}${coverage}; `
      + `${summary.modalities.audio ? "with" : "without"} sound; model ${summary.model}`);
  }

  playbackButtons() {
    const button = (text, name, act) => h("button", { "aria-label": name, onclick: () => this.linkedViews().forEach(act) }, text);
    return h("div", { class: "row controls" }, button("▶ ❚❚", "Play or pause", (view) => view.player.toggle()),
      button("‹", "Previous frame", (view) => view.player.step(-1)), button("›", "Next frame", (view) => view.player.step(1)),
      button("‹ event", "Previous event", (view) => view.seekEvent(-1)), button("event ›", "Next event", (view) => view.seekEvent(1)), this.time);
  }

  displayOptions() {
    const { show } = this.player;
    const box = (name, text) => h("label", {}, h("input", { type: "checkbox", checked: show[name],
      onchange: (event) => { show[name] = event.target.checked; this.player.draw(); } }), text);
    const attributionSelect = h("select", { "aria-label": "Evidence", disabled: !this.result.evidence,
      onchange: () => { show.attributions = attributionSelect.value; this.player.draw(); } },
    h("option", { value: "" }, "none"), h("option", { value: "patches" }, "selected patches"),
    ...this.names.map((name) => h("option", { value: name }, `attention of ${name}`)));
    const from = h("input", { type: "text", size: "7", placeholder: "2-5", "aria-label": "Seconds at rest", hidden: true });
    const baseline = h("select", { "aria-label": "Baseline" }, ...["none", "median", "seconds"].map((name) => h("option", { value: name }, name)));
    baseline.value = this.baseline === "none" || this.baseline === "median" ? this.baseline : "seconds";
    if (baseline.value === "seconds") { from.hidden = false; from.value = this.baseline; }
    const choose = () => {
      from.hidden = baseline.value !== "seconds";
      const requested = from.hidden ? baseline.value : from.value;
      if (requested) this.setBaseline(requested);
    };
    baseline.addEventListener("change", choose);
    from.addEventListener("change", choose);
    return h("div", { class: "row controls" }, h("label", {}, "Face", this.face), box("box", "box"), box("bars", "bars"),
      h("label", {}, "Evidence", attributionSelect), h("label", {}, "Baseline", baseline, from),
      h("button", { onclick: () => { this.timeline.reset(); this.player.thresholds = this.timeline.thresholds; this.onThresholdsChanged(); } }, "Reset thresholds"));
  }

  async load() {
    await this.loadTable();
    const files = await get(`/api/results/${this.result.id}/files`);
    this.drawFiles(files);
    this.onFrame(this.player.seconds);
  }

  async loadTable() {
    this.table = await loadTable(this.result.id, this.baseline);
    this.player.table = this.table;
    const chosen = this.face.value;
    this.face.replaceChildren(...this.table.faces.map((face) => h("option", { value: String(face) }, String(face))));
    if (chosen) this.face.value = chosen;
    this.showFace();
    this.player.draw();
    await this.loadEvents();
  }

  async loadEvents() {
    const query = new URLSearchParams({ baseline: this.baseline });
    this.names.forEach((name) => query.append("threshold", this.timeline.thresholds[name]));
    this.allEvents = await get(`/api/results/${this.result.id}/events?${query}`);
    this.showEvents();
  }

  showEvents() {
    if (!this.allEvents) return;  // still loading
    const face = Number(this.face.value);
    this.events.show(this.allEvents.filter((event) => event.face_id === face).sort((a, b) => a.onset - b.onset), this.player.seconds);
  }

  showFace() { this.timeline.show(this.table, Number(this.face.value)); this.showEvents(); }

  drawFiles(files) {
    const root = `/api/results/${this.result.id}`;
    const link = (href, text, name) => h("a", { class: "button", href, "data-file": name, ...(name === "report.html" ? { target: "_blank" } : { download: "" }) }, text);
    this.files.replaceChildren(...Object.entries(files).map(([name, what]) => link(`${root}/files/${name}`, what, name)),
      ...Object.entries(FORMATS).map(([name, what]) => link(`${root}/exports/${name}?baseline=${encodeURIComponent(this.baseline)}`, what, name)));
  }

  async setBaseline(requested) {
    const previous = this.baseline;
    this.baseline = requested;
    try { await this.load(); } catch (error) { this.baseline = previous; notify(error.message); }
  }

  // The picture changes at once; the events are computed by the server, so they are requested after a pause.
  onThresholdsChanged() {
    this.player.thresholds = this.timeline.thresholds;
    this.player.draw();
    clearTimeout(this.eventsTimer);
    this.eventsTimer = setTimeout(() => this.loadEvents().catch((error) => notify(error.message)), 300);
  }

  seek(seconds) { this.linkedViews().forEach((view) => view.player.seek(seconds)); }

  seekEvent(direction) {
    const seconds = this.events.nextOnset(this.player.seconds, direction);
    if (seconds !== null) { this.player.pause(); this.player.seek(seconds); }
  }

  onFrame(seconds) {
    if (!this.table) return;
    const index = this.table.frameAt(seconds);
    this.time.textContent = `${formatTime(seconds)}  frame ${this.table.columns.frame[this.table.firstRow[index]] ?? 0}`;
    this.timeline.moveTo(seconds);
    this.events.mark(seconds);
  }
}
