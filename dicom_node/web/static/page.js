"use strict";
// What every page needs. Every value is set as text, never as markup: what peers send us must not become a script.
const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const time = (value) => new Date(value).toLocaleString();
const read = async (path) => (await fetch(path)).json();
const row = (cells) => { const tr = make("tr"); cells.forEach((cell) => tr.append(cell)); return tr; };
const cell = (text, className) => make("td", className, text);
const none = (columns, text) => { const td = cell(text, "empty"); td.colSpan = columns; return row([td]); };
const fill = (id, rows, columns, empty) =>
  document.getElementById(id).replaceChildren(...(rows.length ? rows : [none(columns, empty)]));

// Ask the node for a change; returns "" or the sentence that says why not.
async function send(method, path, body) {
  const answer = await fetch(path, { method, headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  await refresh(true);
  if (answer.ok) return "";
  const { detail } = await answer.json();
  return typeof detail === "string" ? detail : detail.map((one) => `${one.loc.at(-1)}: ${one.msg.replace("Value error, ", "")}`).join("; ");
}

// A page calls watch(paths, show) once: show gets what the paths return, whenever any of it has changed.
let watched = { paths: [], show: () => {} }, seen = "";
async function refresh(force) {
  try {
    const [health, ...found] = await Promise.all(["/health", ...watched.paths].map(read));
    const gigabytes = (health.free_bytes / 1e9).toFixed(1);
    document.getElementById("health").textContent =
      `Status: ${health.status}. ${health.instance_count} instances kept, ${gigabytes} GB free.`
      + (health.audit_problems.length ? " The audit needs attention: see Network." : "");
    const state = JSON.stringify(found);
    if (state === seen && !force) return;
    seen = state;
    watched.show(...found);
  } catch {
    document.getElementById("health").textContent = "The node does not answer.";
  }
}
function watch(paths, show) {
  watched = { paths, show };
  refresh();
  setInterval(() => document.hidden || refresh(), 1500);  // nobody looks: nothing is asked
}
