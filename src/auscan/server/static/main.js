// Show the view of the address: #/ (videos), #/result/ID[/ID], #/camera.
import { showVideos } from "./videos.js";
import { showResults } from "./result.js";
import { showCamera } from "./camera.js";
import { get } from "./api.js";
import { h } from "./dom.js";

let leaveView = () => {};

async function route() {
  leaveView();
  leaveView = () => {};
  const main = document.getElementById("main");
  const [view, ...ids] = location.hash.replace(/^#\/?/, "").split("/");
  for (const link of document.querySelectorAll("nav a")) {
    const isCurrent = link.dataset.view === (view === "camera" ? "camera" : "videos");
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren();
  try {
    const about = await get("/api/about");
    if (view === "camera") leaveView = showCamera(main, about);
    else if (view === "result" && ids.length) leaveView = await showResults(main, about, ids.slice(0, 2));
    else leaveView = showVideos(main, about);
  } catch (error) {
    main.replaceChildren(h("p", { class: "bad" }, error.message));
  }
}

// Without this the browser would open a dropped file instead of the page.
for (const name of ["dragover", "drop"]) {
  addEventListener(name, (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
}
addEventListener("hashchange", route);
route();
