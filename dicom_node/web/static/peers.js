"use strict";
const OBJECTS = { sr: "SR", seg: "SEG", sc: "SC pages", pdf: "PDF" };
const SR_CLASSES = { auto: "newest SR it takes", comprehensive_3d: "Comprehensive 3D SR", comprehensive: "Comprehensive SR",
  enhanced: "Enhanced SR", basic_text: "Basic Text SR" };
const checkbox = (key, checked) => {
  const label = make("label", "check"), box = make("input");
  box.type = "checkbox"; box.name = "objects"; box.value = key; box.checked = checked;
  label.append(box, ` ${OBJECTS[key]}`);
  return label;
};
const classChoice = (select, chosen) => {
  Object.entries(SR_CLASSES).forEach(([key, name]) => select.append(new Option(name, key, key === "auto", key === chosen)));
  return select;
};
const ticked = (root) => [...root.querySelectorAll("[name=objects]:checked")].map((box) => box.value);

function profileCells(peer) {
  const path = `/api/peers/${encodeURIComponent(peer.name)}`, gets = make("td", "gets"), form = make("td");
  if (!peer.receives_results) return [cell("no"), cell("-")];
  const change = async (body) => { document.getElementById("peer-problem").textContent = await send("PATCH", path, body); };
  Object.keys(OBJECTS).forEach((key) => gets.append(checkbox(key, peer.objects.includes(key))));
  gets.onchange = () => change({ objects: ticked(gets) });
  const choice = classChoice(make("select"), peer.sr_class);
  choice.setAttribute("aria-label", `Report for ${peer.name} as`);
  choice.onchange = () => change({ sr_class: choice.value });
  form.append(choice);
  return [gets, form];
}

const peerRow = (peer) => {
  const remove = make("button", "", "Remove");
  remove.onclick = () => { if (confirm(`Remove peer ${peer.name}?`)) send("DELETE", `/api/peers/${encodeURIComponent(peer.name)}`); };
  const last = make("td"); last.append(remove);
  return row([cell(peer.name), cell(peer.ae_title), cell(`${peer.host}:${peer.port}`),
    cell(peer.may_send ? "yes" : "no"), cell(peer.allowed_hosts.join(" ") || "any host"),
    ...profileCells(peer), cell(peer.uses_tls ? "yes" : "no"), last]);
};

document.getElementById("add-peer").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target, data = new FormData(form);
  const peer = { name: data.get("name"), ae_title: data.get("ae_title"), host: data.get("host"), port: Number(data.get("port")),
    may_send: data.has("may_send"), receives_results: data.has("receives_results"), uses_tls: data.has("uses_tls"),
    allowed_hosts: data.get("allowed_hosts").split(/[\s,]+/).filter(Boolean),
    max_associations: Number(data.get("max_associations")) || null, objects: ticked(form), sr_class: data.get("sr_class") };
  const problem = await send("POST", "/api/peers", peer);
  form.querySelector("output").textContent = problem;
  if (!problem) form.reset();
};
classChoice(document.querySelector("#add-peer [name=sr_class]"), "auto");
Object.keys(OBJECTS).forEach((key) => document.getElementById("add-objects").append(checkbox(key, true)));
document.querySelectorAll("#add-objects input").forEach((box) => { box.defaultChecked = true; });
watch(["/api/peers"], (peers) => {
  fill("peers", peers.map(peerRow), 9, "No peers yet: nobody may send, and results go nowhere. Add your PACS.");
});
