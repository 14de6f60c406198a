"use strict";
const OBJECTS = { sr: "SR", seg: "SEG", sc: "SC pages", pdf: "PDF" };
const SR_CLASSES = { auto: "newest SR it takes", comprehensive_3d: "Comprehensive 3D SR", comprehensive: "Comprehensive SR",
  enhanced: "Enhanced SR", basic_text: "Basic Text SR" };
const KINDS = { dimse: "DIMSE", dicomweb: "DICOMweb", orthanc: "Orthanc" };
const dialog = document.getElementById("edit"), form = document.getElementById("peer"), removed = document.getElementById("removed");
const problem = document.getElementById("problem"), answers = new Map();
const path = (name, action = "") => `/api/peers/${encodeURIComponent(name)}${action}`;
const field = (name) => form.elements[name];
let edited = null;

form.querySelector("[name=sr_class]").append(...Object.entries(SR_CLASSES).map(([key, name]) => new Option(name, key)));
document.getElementById("objects").append(...Object.entries(OBJECTS).map(([key, words]) => {
  const label = make("label", "check"), box = make("input");
  box.type = "checkbox"; box.name = "objects"; box.value = key;
  label.append(box, ` ${words}`);
  return label;
}));
const boxes = () => [...form.querySelectorAll("[name=objects]")];

function fitKind() {
  const isDimse = field("kind").value === "dimse";
  form.querySelectorAll(".of-dimse").forEach((one) => { one.hidden = !isDimse; });
  form.querySelectorAll(".of-web").forEach((one) => { one.hidden = isDimse; });
  ["ae_title", "host", "port"].forEach((name) => { field(name).required = isDimse; });
  field("url").required = !isDimse;
  field("ae_title").placeholder = isDimse ? "" : "only if it also sends by DIMSE";
}

function edit(peer) {
  edited = peer;
  form.reset();
  document.getElementById("edit-title").textContent = peer ? `Peer ${peer.name}` : "A new peer";
  form.querySelector("output").textContent = "";
  const values = peer || { kind: "dimse", may_send: true, receives_results: true, objects: Object.keys(OBJECTS), sr_class: "auto", retrieve_by: "get" };
  for (const [key, value] of Object.entries(values)) {
    const one = field(key);
    if (!one || key === "objects") continue;
    if (one.type === "checkbox") one.checked = value;
    else if (value !== null) one.value = Array.isArray(value) ? value.join(" ") : value;
  }
  if (peer && isNameless(peer)) field("ae_title").value = "";
  boxes().forEach((box) => { box.checked = values.objects.includes(box.value); });
  field("name").disabled = field("kind").disabled = Boolean(peer);
  fitKind();
  dialog.showModal();
}

const number = (name) => Number(field(name).value) || null;
function values() {
  const kind = field("kind").value, isDimse = kind === "dimse";
  const own = isDimse
    ? { host: field("host").value, port: number("port"), uses_tls: field("uses_tls").checked,
        wants_commitment: field("wants_commitment").checked, retrieve_by: field("retrieve_by").value }
    : { url: field("url").value, credentials_file: field("credentials_file").value };
  return { ...(edited ? {} : { name: field("name").value, kind }), ae_title: field("ae_title").value, ...own,
    may_send: field("may_send").checked, receives_results: field("receives_results").checked,
    allowed_hosts: field("allowed_hosts").value.split(/[\s,]+/).filter(Boolean), max_associations: number("max_associations"),
    objects: boxes().filter((box) => box.checked).map((box) => box.value), sr_class: field("sr_class").value,
    is_checked: field("is_checked").checked, is_queried: field("is_queried").checked, requests_per_minute: number("requests_per_minute") };
}

form.onsubmit = async (event) => {
  event.preventDefault();
  const failure = await (edited ? send("PATCH", path(edited.name), values()) : send("POST", "/api/peers", values()));
  form.querySelector("output").textContent = failure;
  if (!failure) dialog.close();
};
field("kind").onchange = fitKind;
document.getElementById("cancel").onclick = () => dialog.close();
document.getElementById("add").onclick = () => edit(null);

async function remove(peer) {
  problem.textContent = await send("DELETE", path(peer.name));
  if (problem.textContent) return;
  removed.hidden = false;
  removed.querySelector("span").textContent = `Peer ${peer.name} was removed. What it was sent stays on record.`;
  removed.querySelector("button").onclick = async () => {
    problem.textContent = await send("POST", path(peer.name, "/restore"));
    removed.hidden = !problem.textContent;
  };
}

async function echo(peer) {
  answers.set(peer.name, { sentence: "Asking…", is_there: true });
  refresh(true);
  const answer = await fetch(path(peer.name, "/echo"), { method: "POST" });
  answers.set(peer.name, answer.ok ? await answer.json() : { is_there: false, sentence: (await answer.json()).detail });
  refresh(true);
}

const isNameless = (peer) => peer.kind !== "dimse" && peer.ae_title.startsWith("web:");
const services = (peer) => [
  peer.may_send && `may send${peer.allowed_hosts.length ? ` from ${peer.allowed_hosts.join(", ")}` : ""}`,
  peer.max_associations && `${peer.max_associations} associations at a time`,
  peer.is_queried && `searched for studies${peer.kind === "dimse" ? `, ${peer.retrieve_by === "get" ? "C-GET" : "C-MOVE"}` : ""}`,
  peer.requests_per_minute && `${peer.requests_per_minute} retrievals a minute`,
].filter(Boolean);

function peerRow(peer) {
  const name = cell(peer.name), address = cell(peer.kind === "dimse" ? `${peer.host}:${peer.port}${peer.uses_tls ? ", TLS" : ""}` : peer.url);
  name.append(make("p", "note", KINDS[peer.kind] + (isNameless(peer) ? "" : `, AE title ${peer.ae_title}`)));
  if (peer.credentials_file) address.append(make("p", "note", "with credentials"));
  const answer = answers.get(peer.name);
  if (answer) address.append(make("p", `note${answer.is_there ? "" : " warn"}`, answer.sentence));
  const gets = cell(peer.receives_results ? peer.objects.map((key) => OBJECTS[key]).join(", ") : "nothing");
  if (peer.receives_results) gets.append(make("p", "note", `report as ${SR_CLASSES[peer.sr_class]}`));
  const proof = [peer.wants_commitment && "storage commitment", peer.is_checked && "query"].filter(Boolean).join(", then ");
  const last = make("td", "buttons");
  for (const [text, action] of [["Echo", echo], ["Edit", edit], ["Remove", remove]]) {
    const one = make("button", "quiet", text); one.onclick = () => action(peer); last.append(one);
  }
  return row([name, address, cell(services(peer).join("; ") || "-"), gets, cell(peer.receives_results ? proof || "its answer alone" : "-"), last]);
}

watch(["/api/peers"], (peers) => {
  fill("peers", peers.map(peerRow), 6, "No peers yet: nobody may send, and results go nowhere. Add your PACS.");
});
