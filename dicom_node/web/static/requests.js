"use strict";
const STATES = { WAITING: "waiting", CHOOSE: "to choose", RETRIEVING: "retrieving", RECEIVED: "received", DONE: "done", FAILED: "failed", CANCELLED: "cancelled" };
const NUMBERS = ["age_years", "weight_kg", "height_cm"];
const OPEN = ["WAITING", "CHOOSE", "RETRIEVING", "RECEIVED"];
let shownState = "", shownBatch = "", opened = new Set(), offpeak = {};

const button = (text, act) => { const one = make("button", "", text); one.type = "button"; one.onclick = act; return one; };
const tell = async (method, path, body) => { document.getElementById("request-problem").textContent = await send(method, path, body); };
const day = (value) => value.length === 8 ? `${value.slice(0, 4)}-${value.slice(4, 6)}-${value.slice(6)}` : value;
const number = (value, unit) => value === null ? "" : `${value} ${unit}`;

function show() {
  const query = new URLSearchParams({ state: shownState, batch: shownBatch });
  watched.paths = [`/api/requests/page?${query}`];
  refresh(true);
}

function stateChoice(counts) {
  const all = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const tab = (state, text) => {
    const one = button(text, () => { shownState = state; show(); });
    one.setAttribute("aria-pressed", String(state === shownState));
    return one;
  };
  const tabs = [tab("", `all ${all}`), ...Object.keys(STATES).filter((state) => counts[state] || state === shownState)
    .map((state) => tab(state, `${STATES[state]} ${counts[state] || 0}`))];
  if (shownBatch) tabs.push(button("leave the batch", () => { shownBatch = ""; show(); }));
  document.getElementById("states").replaceChildren(...tabs);
}

function batchRow(batch) {
  const ended = batch.done + batch.failed + batch.cancelled, bar = make("progress"), progress = make("td"), last = make("td", "acts");
  bar.max = batch.row_count; bar.value = ended; bar.title = `${ended} of ${batch.row_count} ended`;
  progress.append(bar, make("small", "", `${ended} of ${batch.row_count}`));
  last.append(button("Show", () => { shownBatch = batch.id; shownState = ""; show(); }));
  const results = make("a", "", "Results");
  results.href = `/api/request-batches/${batch.id}/results.csv`;
  last.append(results);
  if (batch.waiting + batch.to_choose + batch.running)
    last.append(button("Cancel the rest", () => {
      if (confirm(`Cancel what has not been received of ${batch.name}?`)) tell("POST", `/api/request-batches/${batch.id}/cancel`);
    }));
  return row([cell(batch.name), cell(time(batch.created_at)), progress, cell(batch.waiting), cell(batch.to_choose), cell(batch.running),
    cell(batch.done), cell(batch.failed), cell(batch.cancelled), last]);
}

function matchTable(request) {
  const table = make("table", "matches"), head = make("thead"), body = make("tbody");
  head.append(row(["Date", "Modalities", "Description", "Images", "In", ""].map((text) => make("th", "", text))));
  request.matches.forEach((match) => {
    const choose = make("td");
    choose.append(button("This one", () => tell("POST", `/api/requests/${request.id}/choice`, { match_id: match.id })));
    body.append(row([cell(day(match.study_date)), cell(match.modalities), cell(match.description),
      cell(match.instance_count === null ? "?" : match.instance_count), cell(match.peer), choose]));
  });
  table.append(head, body);
  return table;
}

function facts(request) {
  const sex = { F: "female", M: "male", O: "other" }[request.sex] || "";
  const said = [request.age_years === null ? "" : `${request.age_years} years`, sex, number(request.weight_kg, "kg"),
    request.height_m === null ? "" : `${Math.round(request.height_m * 1000) / 10} cm`, request.ethnicity];
  const sought = [request.patient_id && `patient ${request.patient_id}`, request.accession_number && `accession ${request.accession_number}`,
    request.modality, request.study_date_from && `from ${request.study_date_from}`, request.study_date_to && `to ${request.study_date_to}`,
    request.source && `in ${request.source}`];
  return [sought.filter(Boolean).join(", "), said.filter(Boolean).join(", ")].filter(Boolean).join(" · ");
}

function stateWords(request) {
  if (request.state === "RETRIEVING" && request.expected_count)
    return `retrieving ${request.received_count} of ${request.expected_count}`;
  if (request.state === "RECEIVED") return request.job_state ? `analysis ${request.job_state}` : "received";
  return STATES[request.state];
}

function requestCard(request) {
  const card = make("article", "job"), head = make("div", "head");
  head.append(make("strong", "", request.reference), make("span", `state ${request.state.toLowerCase()}`, stateWords(request)));
  if (request.priority !== "normal") head.append(make("span", "", request.priority === "offpeak" ? "off-peak" : request.priority));
  if (request.found_at) head.append(make("span", "", `from ${request.found_at}`));
  head.append(make("span", "when", time(request.created_at)));
  card.append(head, make("p", "facts", facts(request)));
  if (request.sentence) card.append(make("p", "", request.sentence));
  if (request.state === "WAITING" && request.priority === "offpeak" && !offpeak.is_offpeak)
    card.append(make("p", "facts", `Waits for the off-peak hours, ${offpeak.offpeak_hours}.`));
  else if (request.state === "WAITING" && new Date(request.due_at) > new Date()) card.append(make("p", "facts", `Next try: ${time(request.due_at)}.`));
  if (request.state === "RETRIEVING" && request.expected_count) {
    const bar = make("progress"); bar.max = request.expected_count; bar.value = request.received_count; card.append(bar);
  }
  if (request.state === "RECEIVED" && request.job_state) {
    const bar = make("progress"); bar.value = request.job_progress; card.append(make("p", "facts", request.job_stage), bar);
  }
  if (request.matches.length) card.append(matchTable(request));
  card.append(acts(request));
  return card;
}

function acts(request) {
  const all = make("div", "acts");
  if (OPEN.includes(request.state)) all.append(button("Cancel", () => {
    if (confirm(`Cancel request ${request.reference}?`)) tell("POST", `/api/requests/${request.id}/cancel`);
  }));
  if (["FAILED", "CANCELLED"].includes(request.state)) all.append(button("Try again", () => tell("POST", `/api/requests/${request.id}/retry`)));
  if (request.job_id) { const link = make("a", "", "Job"); link.href = `/#${request.job_id}`; link.title = request.job_id; all.append(link); }
  const history = make("details"), list = make("ol", "history");
  history.append(make("summary", "", "History"), list);
  history.open = opened.has(request.id);
  const read_history = async () => {
    const found = await read(`/api/requests/${request.id}`);
    list.replaceChildren(...found.history.map((event) => make("li", "", `${time(event.at)}: ${STATES[event.state]}. ${event.sentence}`)));
  };
  history.ontoggle = () => { opened[history.open ? "add" : "delete"](request.id); if (history.open) read_history(); };
  if (history.open) read_history();
  all.append(history);
  return all;
}

document.getElementById("ask").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target, asked = {};
  new FormData(form).forEach((value, name) => { if (value !== "") asked[name] = NUMBERS.includes(name) ? Number(value) : value; });
  const output = form.querySelector("output");
  output.textContent = await send("POST", "/api/requests", asked);
  if (!output.textContent) { form.reset(); output.textContent = `Asked for ${asked.reference}.`; }
};

async function upload(form, only_check) {
  const file = form.elements.file.files[0], output = form.querySelector("output"), problems = document.getElementById("problems");
  if (!file) { output.textContent = "Choose a file first."; return; }
  problems.replaceChildren();
  output.textContent = "Checking…";
  const query = new URLSearchParams({ name: file.name, dry_run: only_check });
  const answer = await fetch(`/api/request-batches?${query}`, { method: "POST", headers: { "Content-Type": "text/csv" }, body: file });
  const found = await answer.json();
  if (!answer.ok) { output.textContent = typeof found.detail === "string" ? found.detail : "The file was refused."; return; }
  problems.replaceChildren(...found.problems.map((one) => make("li", "", `${one.line ? `line ${one.line}: ` : ""}${one.field ? `${one.field}: ` : ""}${one.sentence}`)));
  const bad = found.problems.length;
  if (found.added_count) { output.textContent = `${found.added_count} requests added.`; form.reset(); refresh(true); }
  else output.textContent = bad ? `${found.row_count} rows, ${bad} problems: nothing was added.` : `${found.row_count} rows, all right; nothing was added yet.`;
}
document.getElementById("batch").onsubmit = (event) => { event.preventDefault(); upload(event.target, false); };
document.querySelector("#batch [name=check]").onclick = (event) => upload(event.target.form, true);

let knownSources = "";
watch(["/api/requests/page"], (page) => {
  if (JSON.stringify(page.sources) !== knownSources) {
    knownSources = JSON.stringify(page.sources);
    document.querySelector("#ask [name=source]").replaceChildren(new Option("every queried peer", ""), ...page.sources.map((name) => new Option(name, name)));
  }
  offpeak = page;
  stateChoice(page.counts);
  fill("batches", page.batches.map(batchRow), 10, "No batches yet.");
  const cards = page.requests.map(requestCard);
  const nothing = page.sources.length ? "No requests here." : "No peer is queried yet: set “queried” for your PACS on the page of peers.";
  document.getElementById("requests").replaceChildren(...(cards.length ? cards : [make("p", "empty", nothing)]));
});
