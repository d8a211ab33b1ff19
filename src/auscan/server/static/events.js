// List the events of a face beside the player; current events are highlighted, a click seeks to the apex.
import { formatTime, h } from "./dom.js";

const MAX_ROWS = 200;  // rows per page; the page around the current time is shown

export class EventList {
  constructor(name, seek) {
    this.seek = seek;
    this.body = h("tbody");
    this.pageNote = h("p", { class: "faint" });
    const head = h("tr", {}, ...["AU", "onset", "duration", "peak"].map((title) => h("th", { scope: "col" }, title)));
    this.element = h("section", { class: "card events", "aria-label": `Events of ${name}`, tabindex: "0" }, h("table", {}, h("thead", {}, head), this.body), this.pageNote);
    Object.assign(this, { events: [], shown: [], rows: [], first: 0 });
  }

  // events: events of one face, sorted by onset.
  show(events, seconds) {
    this.events = events;
    this.showPage(this.pageStart(seconds));
    this.mark(seconds);
  }

  // Return the index of the first row of the page that contains a time.
  pageStart(seconds) {
    const last = this.events.findLastIndex((event) => event.onset <= seconds);
    return MAX_ROWS * Math.floor(Math.max(0, last) / MAX_ROWS);
  }

  showPage(first) {
    this.first = first;
    this.shown = this.events.slice(first, first + MAX_ROWS);
    this.rows = this.shown.map((event) => h("tr", {},
      h("td", {}, h("button", { "aria-label": `${event.AU} at ${formatTime(event.onset)}`, onclick: () => this.seek(event.apex) }, event.AU)),
      h("td", {}, formatTime(event.onset)), h("td", {}, `${event.duration.toFixed(2)} s`), h("td", {}, event.peak.toFixed(2))));
    this.body.replaceChildren(...this.rows);
    const total = this.events.length;
    this.pageNote.textContent = total > MAX_ROWS ? `Events ${first + 1} to ${first + this.rows.length} of ${total}; seek to show others.` : total ? "" : "No events.";
    this.pageNote.hidden = !this.pageNote.textContent;
  }

  mark(seconds) {
    const page = this.pageStart(seconds);
    if (page !== this.first) this.showPage(page);
    this.rows.forEach((row, i) => row.classList.toggle("now", this.shown[i].onset <= seconds && seconds < this.shown[i].offset));
  }

  // Return the onset of the nearest event before or after a time, or null.
  nextOnset(seconds, direction) {
    const event = direction > 0 ? this.events.find(({ onset }) => onset > seconds + 0.03) : this.events.findLast(({ onset }) => onset < seconds - 0.03);
    return event ? event.onset : null;
  }
}
