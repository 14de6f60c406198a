"use strict";
const editor = document.getElementById("editor"), editorForm = editor.querySelector("form"), actor = document.getElementById("actor");
const problem = document.getElementById("problem"), undo = document.getElementById("undo");
let inForce = { number: 0, rules: [], fields: [], operators: {}, peers: [], segmenters: [] };
actor.value = actorName();
actor.onchange = () => keepActorName(actor.value);

const valueText = (value) => Array.isArray(value) ? value.join(", ") : value ?? "";
const conditionText = (one) => `${one.field} ${inForce.operators[one.operator]} ${Array.isArray(one.value) && one.operator === "between" ? one.value.join(" and ") : valueText(one.value)}`.trim();

// Make a change; the revision looked at goes with it, so that nobody overwrites another's work unknowingly.
async function change(method, path, body, done, before = inForce.number) {
  problem.textContent = await send(method, path, { actor: actor.value, based_on: before, ...body });
  if (problem.textContent) { problem.scrollIntoView({ block: "nearest" }); return false; }
  undo.hidden = false;
  undo.querySelector("span").textContent = done;
  undo.querySelector("button").onclick = async () => {
    problem.textContent = await send("POST", `/api/rule-history/${before}/restore`, { actor: actor.value });
    undo.hidden = true;
  };
  return true;
}
const ruleAt = (name, tail = "") => `/api/rules/${encodeURIComponent(name)}${tail}`;

function ruleCard(rule, index) {
  const card = make("div", `rule ${rule.is_enabled ? "" : "off"}`), head = make("div", "head"), buttons = make("span", "buttons");
  head.append(make("span", "place", index + 1), make("b", "", rule.name), make("span", "state", rule.is_enabled ? "" : "switched off"),
    make("span", "uid", inForce.hashes[index].slice(0, 12)));
  const button = (text, label, run, off) => { const one = make("button", "quiet", text); one.setAttribute("aria-label", `${label} ${rule.name}`); one.title = label; one.disabled = off || false; one.onclick = run; buttons.append(one); };
  button("↑", "Move up", () => change("POST", ruleAt(rule.name, "/place"), { place: index }, `${rule.name} moved up.`), index === 0);
  button("↓", "Move down", () => change("POST", ruleAt(rule.name, "/place"), { place: index + 2 }, `${rule.name} moved down.`), index === inForce.rules.length - 1);
  button("Edit…", "Edit", () => openEditor(rule));
  button(rule.is_enabled ? "Switch off" : "Switch on", rule.is_enabled ? "Switch off" : "Switch on",
    () => change("POST", ruleAt(rule.name, "/switch"), { is_enabled: !rule.is_enabled }, `${rule.name} switched ${rule.is_enabled ? "off" : "on"}.`));
  button("Delete", "Delete", () => change("DELETE", ruleAt(rule.name), {}, `${rule.name} deleted.`));
  head.append(buttons);
  card.append(head);
  const say = (label, text) => { const p = make("p", "note"); p.append(make("b", "", `${label} `), text); card.append(p); };
  say("Takes a study in which one series satisfies:", rule.conditions.map(conditionText).join("; ") || "anything");
  if (rule.unless.length) say("Unless a series satisfies:", rule.unless.map(conditionText).join("; or "));
  rule.required_series.forEach((need) => say(`Needs ${need.name}:`, need.conditions.map(conditionText).join("; ")));
  say("Then:", `${rule.pipelines.join(" and ")}${rule.segmenter ? ` by ${rule.segmenter}` : ""}, priority ${rule.priority}, results to ${rule.destinations.join(", ") || "the peers that receive results"}.`);
  const { pacs, wait_s, then } = rule.completeness;
  if (pacs !== "ct" || wait_s !== null || then) say("Completeness:", [pacs === "off" ? "the PACS is not asked" : pacs === "all" ? "every object the PACS counts" : "CT series the PACS counts",
    wait_s === null ? "" : `waits ${wait_s} s`, then === "hold" ? "then held for an operator" : then ? "then goes on with a flag" : ""].filter(Boolean).join(", ") + ".");
  const missing = rule.destinations.filter((name) => !inForce.peers.includes(name));
  if (missing.length) card.append(make("p", "note warn", `No longer a peer: ${missing.join(", ")}.`));
  return card;
}

function conditionRow(one = { field: "modality", operator: "is", value: "" }) {
  const line = make("div", "line condition"), field = make("select"), keyword = make("input"), operator = make("select"), value = make("input"), remove = make("button", "quiet", "✕");
  field.setAttribute("aria-label", "Field"); operator.setAttribute("aria-label", "Comparison"); value.setAttribute("aria-label", "Value"); keyword.setAttribute("aria-label", "Keyword of the attribute");
  inForce.fields.forEach((known) => { const option = new Option(known.name, known.name); option.title = known.meaning; field.append(option); });
  field.append(new Option("another attribute…", "tag:"));
  Object.entries(inForce.operators).forEach(([key, words]) => operator.append(new Option(words, key)));
  field.value = one.field.startsWith("tag:") ? "tag:" : one.field;
  keyword.value = one.field.startsWith("tag:") ? one.field.slice(4) : ""; keyword.placeholder = "Keyword, as ContrastBolusAgent";
  operator.value = one.operator;
  value.value = valueText(one.value);
  const show = () => {
    keyword.hidden = field.value !== "tag:";
    value.hidden = ["present", "absent"].includes(operator.value);
    value.placeholder = { one_of: "values with commas between", between: "low, high", like: "*words* or ?", not_like: "*words* or ?" }[operator.value] || "value";
  };
  field.onchange = operator.onchange = show;
  show();
  remove.type = "button"; remove.setAttribute("aria-label", "Remove this condition"); remove.onclick = () => line.remove();
  line.append(field, keyword, operator, value, remove);
  line.read = () => {
    const name = field.value === "tag:" ? `tag:${keyword.value.trim()}` : field.value;
    if (value.hidden) return { field: name, operator: operator.value };
    const kind = (inForce.fields.find((known) => known.name === name) || {}).kind;
    const isNumber = kind === "number" || (!kind && ["at_least", "at_most", "between"].includes(operator.value));
    const parse = (text) => { const number = Number(text); return isNumber && text.trim() && !Number.isNaN(number) ? number : text.trim(); };
    const isMany = ["one_of", "between"].includes(operator.value);
    return { field: name, operator: operator.value, value: isMany ? value.value.split(",").map(parse).filter((part) => part !== "") : parse(value.value) };
  };
  return line;
}
function conditionList(box, conditions) {
  const add = make("button", "quiet", "Add a condition");
  add.type = "button";
  add.onclick = () => box.insertBefore(conditionRow(), add.parentElement);
  const last = make("p"); last.append(add);
  box.replaceChildren(...conditions.map((one) => conditionRow(one)), last);
}
const readConditions = (box) => [...box.querySelectorAll(":scope > .condition")].map((line) => line.read());

function requiredBox(need = { name: "", conditions: [] }) {
  const box = make("div", "required"), label = make("label", "", "Series "), name = make("input"), list = make("div"), remove = make("button", "quiet", "Remove this series");
  name.value = need.name; name.required = true; name.maxLength = 64; name.placeholder = "name, as thin soft kernel";
  label.append(name);
  conditionList(list, need.conditions.length ? need.conditions : [{ field: "ct_instances", operator: "at_least", value: 50 }]);
  remove.type = "button"; remove.onclick = () => box.remove();
  box.append(label, list, remove);
  box.read = () => ({ name: name.value, conditions: readConditions(list) });
  return box;
}
document.getElementById("add-required").onclick = () => document.getElementById("required").append(requiredBox());

function openEditor(rule) {
  const blank = { name: "", is_enabled: true, conditions: [{ field: "modality", operator: "is", value: "CT" }], unless: [], pipelines: ["hip", "spine"], segmenter: "", priority: "normal",
    required_series: [], destinations: [], completeness: { pacs: "ct", wait_s: null, then: null } };
  const shown = rule || blank, f = editorForm.elements, opened = inForce.number;
  document.getElementById("editor-title").textContent = rule ? `Rule ${rule.name}` : "New rule";
  f.name.value = shown.name; f.hip.checked = shown.pipelines.includes("hip"); f.spine.checked = shown.pipelines.includes("spine");
  f.segmenter.replaceChildren(new Option("as set", ""), ...inForce.segmenters.map((name) => new Option(name, name))); f.segmenter.value = shown.segmenter;
  f.priority.value = shown.priority; f.pacs.value = shown.completeness.pacs; f.wait_s.value = shown.completeness.wait_s ?? ""; f.then.value = shown.completeness.then || "";
  conditionList(document.getElementById("conditions"), shown.conditions);
  conditionList(document.getElementById("unless"), shown.unless);
  document.getElementById("required").replaceChildren(...shown.required_series.map((need) => requiredBox(need)));
  const boxes = document.getElementById("destinations");
  boxes.querySelectorAll("label").forEach((one) => one.remove());
  [...new Set([...inForce.peers, ...shown.destinations])].forEach((name) => {
    const label = make("label", "check"), box = make("input");
    box.type = "checkbox"; box.value = name; box.checked = shown.destinations.includes(name);
    label.append(box, ` ${name}`);
    boxes.append(label);
  });
  const output = editorForm.querySelector("output");
  output.textContent = "";
  editorForm.onsubmit = async (event) => {
    event.preventDefault();
    const made = { name: f.name.value, is_enabled: shown.is_enabled, conditions: readConditions(document.getElementById("conditions")), unless: readConditions(document.getElementById("unless")),
      pipelines: ["hip", "spine"].filter((one) => f[one].checked), segmenter: f.segmenter.value, priority: f.priority.value,
      required_series: [...document.getElementById("required").children].map((box) => box.read()),
      destinations: [...boxes.querySelectorAll("input:checked")].map((box) => box.value),
      completeness: { pacs: f.pacs.value, wait_s: f.wait_s.value === "" ? null : Number(f.wait_s.value), then: f.then.value || null } };
    const ok = rule ? await change("PUT", ruleAt(rule.name), { rule: made }, `${made.name} changed.`, opened) : await change("POST", "/api/rules", { rule: made }, `${made.name} added.`, opened);
    output.textContent = problem.textContent;
    if (ok) editor.close();
  };
  editor.showModal();
}
document.getElementById("add").onclick = () => openEditor(null);
document.getElementById("editor-close").onclick = () => editor.close();

document.getElementById("test").onsubmit = async (event) => {
  event.preventDefault();
  const study = event.target.elements.study.value;
  document.getElementById("trial-rules").replaceChildren(...(study ? await trialOf(study) : [make("p", "empty", "No study is here yet.")]));
};

document.getElementById("import").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target, file = form.elements.file.files[0], output = form.querySelector("output"), isTry = event.submitter.value === "try";
  const body = { actor: actor.value, based_on: inForce.number, text: await file.text(), form: file.name.endsWith(".json") ? "json" : "toml", dry_run: isTry };
  const answer = await fetch("/api/rule-file", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const found = await answer.json();
  if (!answer.ok) { output.textContent = typeof found.detail === "string" ? found.detail : "The file cannot be read."; return; }
  const said = ["added", "removed", "changed", "unchanged"].filter((key) => found[key].length).map((key) => `${key}: ${found[key].join(", ")}`);
  output.textContent = `${isTry ? "It would be" : "Imported"} ${said.join("; ") || "nothing"}.`;
  refresh(true);
};

watch(["/api/rules", "/api/rule-history", "/api/studies"], (found, history, studies) => {
  inForce = found;
  document.getElementById("rules").replaceChildren(...(found.rules.length ? found.rules.map(ruleCard) : [make("p", "empty", "No rule: no study is analysed. Add one, or bring back an earlier revision below.")]));
  const select = document.querySelector("#test select"), chosen = select.value;
  select.replaceChildren(...studies.filter((study) => study.instance_count).map((study) => new Option(`…${study.study_instance_uid.slice(-28)} (${study.instance_count} image${study.instance_count === 1 ? "" : "s"}, ${study.state.replaceAll("_", " ")})`, study.study_instance_uid)));
  if (chosen) select.value = chosen;
  fill("history", history.map((one) => {
    const last = make("td"), back = make("button", "quiet", "Bring back");
    back.onclick = () => { if (confirm(`Put the rules of revision ${one.number} in force again?`)) change("POST", `/api/rule-history/${one.number}/restore`, {}, `Revision ${one.number} brought back.`); };
    if (one.number !== found.number) last.append(back); else last.append(make("span", "state done", "in force"));
    return row([cell(one.number), cell(one.made_at ? time(one.made_at) : ""), cell(one.actor), cell(one.change), cell(one.rules.join(", ") || "none"), last]);
  }), 6, "");
});
