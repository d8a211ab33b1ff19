// Show the list of videos: upload, progress, cancel, compare two.
import { get, post, remove, upload } from "./api.js";
import { h, notify } from "./dom.js";

const MAX_UPLOADS = 3;  // simultaneous uploads; a browser has six connections, and polling the list needs one

// Uploads continue while another view is shown, so these are module variables.
const uploadList = h("ul", { class: "jobs", "aria-label": "Uploads" });
const uploadQueues = Array(MAX_UPLOADS).fill(Promise.resolve());
let uploadCount = 0;

const STATUS_TEXT = { queued: "queued", running: "processing", done: "done", failed: "failed", cancelled: "cancelled" };

export function showVideos(main, about) {
  const list = h("ul", { class: "jobs", "aria-label": "Videos" });
  const compareButton = h("button", { disabled: true }, "Compare two");
  const options = optionFields();
  const input = h("input", { type: "file", multiple: true, hidden: true, accept: about.suffixes.join(","), id: "files" });
  const choose = h("button", { class: "main", onclick: () => input.click() }, "Choose videos");
  const drop = h("section", { class: "card drop", "aria-label": "Add videos" },
    h("div", {}, "Drop videos or pictures here, or"), h("div", { class: "row" }, choose, input), options.row);
  main.append(h("h1", {}, "Videos"), drop, uploadList, h("div", { class: "row results" }, h("h2", {}, "Results"), compareButton), list);

  const chosen = new Set();
  let timer = 0, closed = false;
  const addFiles = (files) => queueUploads([...files], about.suffixes, options.values(), refresh);
  input.addEventListener("change", () => { addFiles(input.files); input.value = ""; });
  const removeDropHandlers = addDropHandlers(drop, addFiles);
  compareButton.addEventListener("click", () => { location.hash = `#/result/${[...chosen].join("/")}`; });

  const setChosen = (id, on) => {
    if (on) chosen.add(id); else chosen.delete(id);
    compareButton.disabled = chosen.size !== 2;
  };
  async function refresh() {
    clearTimeout(timer);
    let busy = false;
    try {
      const jobs = await get("/api/jobs");
      if (closed) return;
      busy = jobs.some((job) => job.status === "queued" || job.status === "running");
      updateList(list, jobs, chosen, setChosen, refresh);
    } catch (error) {
      notify(error.message);
    }
    clearTimeout(timer);
    if (!closed) timer = setTimeout(refresh, busy ? 400 : 3000);
  }
  refresh();
  return () => { closed = true; clearTimeout(timer); removeDropHandlers(); };
}

// Accept files dropped anywhere on the page and highlight `highlighted` meanwhile. Return a function that removes the handlers.
function addDropHandlers(highlighted, addFiles) {
  const controller = new AbortController();
  const on = (name, action) => addEventListener(name, action, { signal: controller.signal });
  on("dragover", (event) => highlighted.classList.toggle("over", event.dataTransfer.types.includes("Files")));
  on("dragleave", (event) => { if (!event.relatedTarget) highlighted.classList.remove("over"); });
  on("drop", (event) => { highlighted.classList.remove("over"); addFiles(event.dataTransfer.files); });
  return () => controller.abort();
}

function optionFields() {
  const operatingPoint = h("select", { "aria-label": "Thresholds for" },
    ...["default", "balanced", "precise", "sensitive"].map((name) => h("option", { value: name }, name)));
  const boxes = { evidence: h("input", { type: "checkbox", checked: true }),
    report: h("input", { type: "checkbox" }), keep_all: h("input", { type: "checkbox" }) };
  const row = h("div", { class: "row" }, h("label", {}, "Thresholds", operatingPoint),
    h("label", {}, boxes.evidence, "save attention maps"), h("label", {}, boxes.report, "write a report"),
    h("label", {}, boxes.keep_all, "score low-quality faces"));
  const values = () => ({ operating_point: operatingPoint.value,
    ...Object.fromEntries(Object.entries(boxes).map(([name, box]) => [name, box.checked])) });
  return { row, values };
}

function queueUploads(files, suffixes, options, refresh) {
  const hasKnownSuffix = (file) => suffixes.some((suffix) => file.name.toLowerCase().endsWith(suffix));
  const unknownNames = files.filter((file) => !hasKnownSuffix(file)).map((file) => file.name);
  if (unknownNames.length) notify(`Not a video or picture: ${unknownNames.join(", ")}`);
  for (const file of files.filter(hasKnownSuffix)) {
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Uploading ${file.name}` });
    const item = h("li", {}, h("span"), h("span", { class: "name" }, file.name), bar);
    uploadList.append(item);
    const queue = uploadCount++ % MAX_UPLOADS;
    uploadQueues[queue] = uploadQueues[queue].then(() => uploadFile(file, item, bar, options, refresh));
  }
}

async function uploadFile(file, item, bar, options, refresh) {
  try {
    await upload(file, options, (share) => { bar.value = share; });
  } catch (error) {
    notify(`${file.name}: ${error.message}`);
  }
  item.remove();
  refresh();
}

// Update existing items in place, so that the keyboard focus stays on its button.
function updateList(list, jobs, chosen, setChosen, refresh) {
  const old = new Map([...list.children].map((item) => [item.dataset.id, item]));
  if (!jobs.length) {
    list.replaceChildren(h("li", {}, h("span"), h("span", { class: "faint" }, "None yet.")));
    return;
  }
  const items = jobs.map((job) => {
    const item = old.get(job.id);
    if (item?.dataset.status === job.status) { item.update(job); return item; }
    return makeItem(job, chosen, setChosen, refresh);
  });
  if (items.length !== list.children.length || items.some((item, i) => list.children[i] !== item)) {
    list.replaceChildren(...items);
  }
}

function makeItem(job, chosen, setChosen, refresh) {
  const done = job.status === "done";
  const active = job.status === "queued" || job.status === "running";
  const box = h("input", { type: "checkbox", "aria-label": `Compare ${job.name}`, checked: chosen.has(job.id),
    disabled: !done, onchange: (event) => setChosen(job.id, event.target.checked) });
  const name = done ? h("a", { href: `#/result/${job.id}` }, job.name) : job.name;
  const bar = active ? h("progress", { max: 1, "aria-label": `Processing ${job.name}` }) : null;
  if (job.status === "queued") bar.value = 0;  // without a value the bar is animated as if running
  const statusText = h("span", { class: "faint" });
  const action = (title, path, call) => h("button", { "aria-label": `${title} ${job.name}`, onclick: async () => {
    try { await call(path); } catch (error) { notify(error.message); }
    refresh();
  } }, title);
  const button = active ? action("Cancel", `/api/jobs/${job.id}/cancel`, post) : action("Delete", `/api/jobs/${job.id}`, remove);
  const item = h("li", {}, box, h("span", { class: "name" }, name),
    h("div", { class: "state" }, bar, statusText), h("span", { class: "acts" }, button),
    job.error ? h("p", { class: "error bad" }, job.error) : null);
  item.dataset.id = job.id;
  item.dataset.status = job.status;
  item.update = (now) => {
    if (bar && now.total) bar.value = now.done / now.total;
    statusText.textContent = state(now);
  };
  item.update(job);
  return item;
}

function state(job) {
  if (job.status === "done") return `done in ${job.seconds.toFixed(1)} s`;
  if (job.status !== "running" || !job.done) return STATUS_TEXT[job.status];
  if (job.done === job.total) return "writing results";
  const frames = job.total ? `${job.done} of ${job.total} frames` : `${job.done} frames`;
  return job.left_s == null ? frames : `${frames}, ${Math.ceil(job.left_s)} s left`;
}
