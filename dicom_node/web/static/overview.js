"use strict";
// Every value is set as text, never as markup: what peers send us must not become a script.
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

function showJob(job) {
  const box = make("div", "job");
  const head = make("div", "head");
  head.append(make("span", `state ${job.state}`, job.state), make("span", "id", job.id),
    make("span", "", job.pseudonym || ""), make("span", "id", time(job.created_at)));
  if (["failed", "done"].includes(job.state)) {
    const again = make("button", "", "Run again");
    again.onclick = () => send("POST", `/api/jobs/${job.id}/retry`);
    head.append(again);
  }
  box.append(head);
  if (job.headline) box.append(make("p", "headline", job.headline));
  if (job.sentence) box.append(make("p", "", job.sentence));
  if (!["failed", "done", "discarded"].includes(job.state)) {
    const bar = make("progress"); bar.max = 1; bar.value = job.progress;
    box.append(make("p", "", `${job.stage} (${Math.round(100 * job.progress)} %)`), bar);
  }
  if (job.pictures.length) {
    const pictures = make("div", "pictures");
    job.pictures.forEach((name) => {
      const link = make("a"); link.href = `/api/jobs/${job.id}/pictures/${name}`;
      const image = make("img"); image.src = link.href; image.alt = name.replaceAll("_", " ");
      link.append(image); pictures.append(link);
    });
    box.append(pictures);
  }
  job.deliveries.forEach((one) => box.append(make("p", "deliveries",
    `to ${one.peer}: ${one.state}, attempt ${one.attempts}${one.sentence ? ` - ${one.sentence}` : ""}`)));
  return box;
}

async function send(method, path, body) {
  const answer = await fetch(path, { method, headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  await refresh(true);
  if (answer.ok) return "";
  const { detail } = await answer.json();
  return typeof detail === "string" ? detail : detail.map((one) => `${one.loc.at(-1)}: ${one.msg.replace("Value error, ", "")}`).join("; ");
}

let seen = "";
async function refresh(force) {
  try {
    const [health, jobs, studies, peers, quarantine, associations, commitments] = await Promise.all(
      ["/health", "/api/jobs", "/api/studies", "/api/peers", "/api/quarantine", "/api/associations", "/api/commitments"].map(read));
    const gigabytes = (health.free_bytes / 1e9).toFixed(1);
    document.getElementById("health").textContent =
      `Status: ${health.status}. ${health.instance_count} instances kept, ${gigabytes} GB free.`;
    const state = JSON.stringify([jobs, studies, peers, quarantine, associations, commitments]);
    if (state === seen && !force) return;
    seen = state;
    if (jobs.length) document.getElementById("jobs").replaceChildren(...jobs.map(showJob));
    document.getElementById("studies").replaceChildren(...(studies.length ? studies.map((study) => row([
      cell(study.study_instance_uid, "uid"), cell(study.instance_count), cell(time(study.last_arrival)),
      cell(study.version || "arriving"), cell(study.job_ids.join(" "), "uid")])) : [none(5, "Nothing has arrived yet.")]));
    document.getElementById("peers").replaceChildren(...(peers.length ? peers.map((peer) => {
      const remove = make("button", "", "Remove");
      remove.onclick = () => { if (confirm(`Remove peer ${peer.name}?`)) send("DELETE", `/api/peers/${encodeURIComponent(peer.name)}`); };
      const last = make("td"); last.append(remove);
      return row([cell(peer.name), cell(peer.ae_title), cell(`${peer.host}:${peer.port}`),
        cell(peer.may_send ? "yes" : "no"), cell(peer.allowed_hosts.join(" ") || "any host"),
        ...profileCells(peer), cell(peer.uses_tls ? "yes" : "no"), last]);
    }) : [none(9, "No peers yet: nobody may send, and results go nowhere. Add your PACS.")]));
    document.getElementById("associations").replaceChildren(...(associations.length ? associations.slice(0, 20).map((one) => row([
      cell(time(one.ended_at)), cell(one.calling_aet), cell(one.address), cell(one.accepted), cell(one.refused),
      cell((one.received_bytes / 1e6).toFixed(1)), cell(((new Date(one.ended_at) - new Date(one.started_at)) / 1000).toFixed(1)),
      cell(one.outcome.replaceAll("_", " "))])) : [none(8, "Nobody has sent anything yet.")]));
    document.getElementById("commitments").replaceChildren(...(commitments.length ? commitments.slice(0, 20).map((one) => row([
      cell(time(one.received_at)), cell(one.calling_aet), cell(one.state), cell(one.attempts), cell(one.sentence)])) : [none(5, "Nobody has asked for it.")]));
    document.getElementById("quarantine").replaceChildren(...(quarantine.length ? quarantine.map((one) => row([
      cell(time(one.received_at)), cell(one.calling_aet), cell(one.cause), cell(one.sentence)])) : [none(4, "Empty.")]));
  } catch {
    document.getElementById("health").textContent = "The node does not answer.";
  }
}

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
refresh();
setInterval(refresh, 1500);
