// Create elements: h("button", { class: "main", onclick: go }, "Go"). Text is never interpreted as markup.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

let clearTimer = 0;

// Show a message for some seconds; screen readers announce it (aria-live).
export function notify(text) {
  const status = document.getElementById("status");
  status.textContent = text;
  clearTimeout(clearTimer);
  clearTimer = setTimeout(() => { status.textContent = ""; }, 8000);
}

// 75.32 -> "1:15.32"
export function formatTime(seconds, digits = 2) {
  const whole = Math.max(0, seconds);
  const minutes = Math.floor(whole / 60);
  return `${minutes}:${(whole - 60 * minutes).toFixed(digits).padStart(3 + digits, "0")}`;
}
