// The list of videos: drop some, see how far they are, call them off, open two side by side.
import { get, post, remove, upload } from "./api.js";
import { h, say } from "./dom.js";

const LANES = 3;  // files that are sent at once; a browser has six connections, and the list needs one too

// These outlive the view, as whoever looks at a result meanwhile still sends.
const sending = h("ul", { class: "jobs", "aria-label": "Files on their way" });
const lanes = Array(LANES).fill(Promise.resolve());
let sent = 0;

const WORDS = { queued: "waits", running: "is read", done: "done", failed: "failed", cancelled: "called off" };

export function showVideos(main, about) {
  const list = h("ul", { class: "jobs", "aria-label": "Videos" });
  const beside = h("button", { disabled: true }, "Compare two");
  const options = optionFields();
  const input = h("input", { type: "file", multiple: true, hidden: true, accept: about.suffixes.join(","), id: "files" });
  const choose = h("button", { class: "main", onclick: () => input.click() }, "Choose videos");
  const drop = h("section", { class: "card drop", "aria-label": "Add videos" },
    h("div", {}, "Drop videos or pictures here, or"), h("div", { class: "row" }, choose, input), options.row);
  main.append(h("h1", {}, "Videos"), drop, sending, h("div", { class: "row results" }, h("h2", {}, "Results"), beside), list);

  const chosen = new Set();
  let timer = 0, over = false;
  const take = (files) => send([...files], about.suffixes, options.values(), refresh);
  input.addEventListener("change", () => { take(input.files); input.value = ""; });
  const noDrop = dropAnywhere(drop, take);
  beside.addEventListener("click", () => { location.hash = `#/result/${[...chosen].join("/")}`; });

  const pick = (id, on) => {
    if (on) chosen.add(id); else chosen.delete(id);
    beside.disabled = chosen.size !== 2;
  };
  async function refresh() {
    clearTimeout(timer);
    let busy = false;
    try {
      const jobs = await get("/api/jobs");
      if (over) return;
      busy = jobs.some((job) => job.status === "queued" || job.status === "running");
      draw(list, jobs, chosen, pick, refresh);
    } catch (error) {
      say(error.message);
    }
    clearTimeout(timer);
    if (!over) timer = setTimeout(refresh, busy ? 400 : 3000);
  }
  refresh();
  return () => { over = true; clearTimeout(timer); noDrop(); };
}

// Files may be dropped on all of the page; `mark` is lit meanwhile. Returns what ends it.
function dropAnywhere(mark, take) {
  const ender = new AbortController();
  const on = (name, act) => addEventListener(name, act, { signal: ender.signal });
  on("dragover", (event) => mark.classList.toggle("over", event.dataTransfer.types.includes("Files")));
  on("dragleave", (event) => { if (!event.relatedTarget) mark.classList.remove("over"); });
  on("drop", (event) => { mark.classList.remove("over"); take(event.dataTransfer.files); });
  return () => ender.abort();
}

function optionFields() {
  const point = h("select", { "aria-label": "Thresholds for" },
    ...["default", "balanced", "precise", "sensitive"].map((name) => h("option", { value: name }, name)));
  const boxes = { evidence: h("input", { type: "checkbox", checked: true }),
    report: h("input", { type: "checkbox" }), keep_all: h("input", { type: "checkbox" }) };
  const row = h("div", { class: "row" }, h("label", {}, "Thresholds", point),
    h("label", {}, boxes.evidence, "keep evidence"), h("label", {}, boxes.report, "write a report"),
    h("label", {}, boxes.keep_all, "judge faces that can hardly be read"));
  const values = () => ({ operating_point: point.value,
    ...Object.fromEntries(Object.entries(boxes).map(([name, box]) => [name, box.checked])) });
  return { row, values };
}

function send(files, suffixes, options, refresh) {
  const known = (file) => suffixes.some((suffix) => file.name.toLowerCase().endsWith(suffix));
  const others = files.filter((file) => !known(file)).map((file) => file.name);
  if (others.length) say(`Neither a video nor a picture by its name: ${others.join(", ")}`);
  for (const file of files.filter(known)) {
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Sending ${file.name}` });
    const item = h("li", {}, h("span"), h("span", { class: "name" }, file.name), bar);
    sending.append(item);
    const lane = sent++ % LANES;
    lanes[lane] = lanes[lane].then(() => sendOne(file, item, bar, options, refresh));
  }
}

async function sendOne(file, item, bar, options, refresh) {
  try {
    await upload(file, options, (share) => { bar.value = share; });
  } catch (error) {
    say(`${file.name}: ${error.message}`);
  }
  item.remove();
  refresh();
}

// Items are kept and changed, so that whoever stands on a button with the keyboard stays there.
function draw(list, jobs, chosen, pick, refresh) {
  const old = new Map([...list.children].map((item) => [item.dataset.id, item]));
  if (!jobs.length) {
    list.replaceChildren(h("li", {}, h("span"), h("span", { class: "faint" }, "None yet.")));
    return;
  }
  const items = jobs.map((job) => {
    const item = old.get(job.id);
    if (item?.dataset.status === job.status) { item.update(job); return item; }
    return newItem(job, chosen, pick, refresh);
  });
  if (items.length !== list.children.length || items.some((item, i) => list.children[i] !== item)) {
    list.replaceChildren(...items);
  }
}

function newItem(job, chosen, pick, refresh) {
  const done = job.status === "done";
  const active = job.status === "queued" || job.status === "running";
  const box = h("input", { type: "checkbox", "aria-label": `Compare ${job.name}`, checked: chosen.has(job.id),
    disabled: !done, onchange: (event) => pick(job.id, event.target.checked) });
  const name = done ? h("a", { href: `#/result/${job.id}` }, job.name) : job.name;
  const bar = active ? h("progress", { max: 1, "aria-label": `Reading ${job.name}` }) : null;
  if (job.status === "queued") bar.value = 0;  // or it would move as if something were done
  const words = h("span", { class: "faint" });
  const act = (what, path, call) => h("button", { "aria-label": `${what} ${job.name}`, onclick: async () => {
    try { await call(path); } catch (error) { say(error.message); }
    refresh();
  } }, what);
  const button = active ? act("Cancel", `/api/jobs/${job.id}/cancel`, post) : act("Delete", `/api/jobs/${job.id}`, remove);
  const item = h("li", {}, box, h("span", { class: "name" }, name),
    h("div", { class: "state" }, bar, words), h("span", { class: "acts" }, button),
    job.error ? h("p", { class: "error bad" }, job.error) : null);
  item.dataset.id = job.id;
  item.dataset.status = job.status;
  item.update = (now) => {
    if (bar && now.total) bar.value = now.done / now.total;
    words.textContent = state(now);
  };
  item.update(job);
  return item;
}

function state(job) {
  if (job.status === "done") return `done in ${job.seconds.toFixed(1)} s`;
  if (job.status !== "running" || !job.done) return WORDS[job.status];
  if (job.done === job.total) return "is written";
  const frames = job.total ? `${job.done} of ${job.total} frames` : `${job.done} frames`;
  return job.left_s == null ? frames : `${frames}, ${Math.ceil(job.left_s)} s left`;
}
