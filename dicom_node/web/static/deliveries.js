"use strict";
const STATES = { "": "all", PENDING: "pending", SENT: "sent", COMMITTED: "committed", CONFIRMED: "confirmed", FAILED: "dead letter" };
const CLASSES = { PENDING: "pending", SENT: "done", COMMITTED: "done", CONFIRMED: "done", FAILED: "failed" };
const problem = document.getElementById("problem"), peerChoice = document.getElementById("peer"), retryPeer = document.getElementById("retry-peer");
let state = "", peerNames = [], opened = new Map(), busy = false;

const order = async (path, body) => {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  problem.textContent = answer.ok ? "" : (await answer.json()).detail;
  await reopen();
  await refresh(true);
  return answer.ok;
};
const button = (text, action, title) => { const one = make("button", "quiet", text); one.onclick = action; if (title) one.title = title; return one; };
const moment = (value) => (value ? time(value) : "-");

function nextTry(one) {
  const next = cell(one.next_try_at === null ? "-" : new Date(one.next_try_at) <= new Date() ? "now" : time(one.next_try_at), "when");
  if (one.next_try_at !== null && one.attempts) next.append(make("p", "note", `after ${one.attempts} ${one.attempts === 1 ? "try" : "tries"}`));
  return next;
}

function buttons(one) {
  const td = make("td", "buttons"), path = `/api/deliveries/${one.id}`;
  if (one.next_try_at !== null || one.state === "FAILED") td.append(button("Try now", () => order(`${path}/retry`)));
  if (one.next_try_at !== null) td.append(button("Give up", () => order(`${path}/give-up`), "It can be taken back"));
  if (one.can_undo) td.append(button("Undo", () => order(`${path}/undo`), "Take back that it was given up"));
  if (!peerNames.length) return td;
  const to = make("select");
  to.setAttribute("aria-label", `Send delivery ${one.id} again to`);
  to.append(new Option("Send again to…", ""), ...peerNames.map((name) => new Option(name, name)));
  to.onfocus = () => { busy = true; }; to.onblur = () => { busy = false; };
  to.onchange = async () => {
    const name = to.value;
    busy = false; to.value = "";
    if (name && confirm(`Send every object of this delivery to ${name} again?`)) await order(`${path}/send`, { peer: name });
  };
  td.append(to);
  return td;
}

function itemRow(item) {
  const what = cell(item.kind), answer = cell(item.status, item.is_warning ? "bad" : "");
  what.append(make("p", "uid", item.sop_instance_uid));
  if (item.sentence) answer.append(make("p", "note", item.sentence));
  const committed = cell(item.commitment_failure || moment(item.committed_at), item.commitment_failure ? "bad when" : "when");
  return row([what, answer, cell(moment(item.accepted_at) + (item.sendings > 1 ? ` (sent ${item.sendings} times)` : ""), "when"),
    committed, cell(moment(item.found_at), "when")]);
}

function itemTable(items) {
  const table = make("table"), head = make("thead"), body = make("tbody");
  head.append(row(["Object", "Answer of the peer", "Accepted", "Committed", "Found"].map((text) => make("th", "", text))));
  body.append(...(items.length ? items.map(itemRow) : [none(5, "The profile of this peer takes none of the job's results.")]));
  table.append(head, body);
  const td = make("td"); td.colSpan = 6; td.append(table);
  return row([td]);
}

async function open(id) {
  if (opened.has(id)) opened.delete(id);
  else opened.set(id, (await read(`/api/deliveries/${id}`)).items);
  await refresh(true);
}
const reopen = async () => { for (const id of opened.keys()) opened.set(id, (await read(`/api/deliveries/${id}`)).items || []); };

function deliveryRows(one) {
  const shown = cell("", ""), objects = make("td"), more = make("button", "quiet", `${one.accepted} accepted`);
  shown.append(make("span", `state ${one.next_try_at === null ? CLASSES[one.state] : "pending"}`, one.state));
  if (one.sentence) shown.append(make("p", `note${one.state === "FAILED" ? " warn" : ""}`, one.sentence));
  shown.append(make("p", "note", `since ${time(one.updated_at)}`));
  more.setAttribute("aria-expanded", opened.has(one.id)); more.onclick = () => open(one.id);
  objects.append(more);
  const job = cell(one.job_id.slice(0, 8), "short"); job.title = `job ${one.job_id}, attempt ${one.attempt}`;
  const rows = [row([shown, cell(one.peer), job, objects, nextTry(one), buttons(one)])];
  if (opened.has(one.id)) rows.push(itemTable(opened.get(one.id)));
  return rows;
}

function showStates(counts) {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  document.getElementById("states").replaceChildren(...Object.entries(STATES).map(([key, words]) => {
    const one = make("button", "", `${words} ${key ? counts[key] : total}`);
    one.setAttribute("aria-pressed", key === state);
    one.onclick = () => { state = key; ask(); };
    return one;
  }));
}

function showPeers(peers) {
  peerNames = peers.filter((one) => one.receives_results).map((one) => one.name);
  const wanted = ["", ...peers.map((one) => one.name)];
  if (JSON.stringify([...peerChoice.options].map((one) => one.value)) === JSON.stringify(wanted)) return;
  const chosen = peerChoice.value;
  peerChoice.replaceChildren(...wanted.map((name) => new Option(name || "all", name)));
  peerChoice.value = wanted.includes(chosen) ? chosen : "";
}

async function show(page, peers) {
  if (busy) return;
  showStates(page.counts);
  showPeers(peers);
  retryPeer.disabled = !peerChoice.value;
  fill("deliveries", page.deliveries.flatMap(deliveryRows), 6, state || peerChoice.value
    ? "No such delivery." : "No deliveries yet. A finished job opens one for each peer that receives results.");
}

function ask() {
  const query = new URLSearchParams({ state, peer: peerChoice.value });
  watched = { paths: [`/api/deliveries?${query}`, "/api/peers"], show };
  refresh(true);
}
peerChoice.onchange = ask;
retryPeer.onclick = () => order("/api/deliveries/retry", { peer: peerChoice.value });
watch(["/api/deliveries", "/api/peers"], show);
setInterval(() => { if (opened.size) reopen().then(() => refresh(true)); }, 5000);
