// The events of a face beside the player: those that last now are marked, a click goes to the apex.
import { clock, h } from "./dom.js";

const MOST = 500;  // rows that are shown; the files hold all

export class EventList {
  constructor(seek) {
    this.seek = seek;
    this.body = h("tbody");
    this.note = h("p", { class: "faint" });
    const head = h("tr", {}, ...["AU", "from", "lasts", "peak"].map((title) => h("th", { scope: "col" }, title)));
    this.element = h("section", { class: "card events", "aria-label": "Events", tabindex: "0" }, h("table", {}, h("thead", {}, head), this.body), this.note);
    this.events = [];
  }

  show(events, seconds) {
    this.events = events;
    this.rows = events.slice(0, MOST).map((event) => h("tr", {},
      h("td", {}, h("button", { "aria-label": `${event.AU} at ${clock(event.onset)}`, onclick: () => this.seek(event.apex) }, event.AU)),
      h("td", {}, clock(event.onset)), h("td", {}, `${event.duration.toFixed(2)} s`), h("td", {}, event.peak.toFixed(2))));
    this.body.replaceChildren(...this.rows);
    this.note.textContent = events.length > MOST ? `and ${events.length - MOST} more in the files` : events.length ? "" : "No events.";
    this.note.hidden = !this.note.textContent;
    this.mark(seconds);
  }

  mark(seconds) {
    this.rows?.forEach((row, i) => row.classList.toggle("now", this.events[i].onset <= seconds && seconds < this.events[i].offset));
  }

  // Where the nearest event before or after a moment begins; null where there is none.
  next(seconds, direction) {
    const times = this.events.map((event) => event.onset).filter((onset) => direction * (onset - seconds) > 0.03);
    if (!times.length) return null;
    return direction > 0 ? Math.min(...times) : Math.max(...times);
  }
}
