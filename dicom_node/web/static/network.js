"use strict";
const PAGE = 10;
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const seconds = (one) => (new Date(one.ended_at) - new Date(one.started_at)) / 1000;
const rate = (bytes, busy_s) => (busy_s > 0 && bytes > 0 ? (bytes / 1e6 / busy_s).toFixed(1) : "-");
const byId = (id) => document.getElementById(id);
const words = (key) => key.replaceAll("_", " ").replace(/\bae\b/, "AE");

// A number with a bar behind it: as long as its share of the largest one.
const barCell = (value, largest) => {
  const td = make("td", "bar"), bar = make("span", "fill");
  bar.style.width = `${largest ? (100 * value) / largest : 0}%`;
  td.append(bar, make("span", "", value));
  return td;
};
const alarming = (count) => cell(count, count ? "bad" : "");

function showCallers(callers) {
  const largest = Math.max(0, ...callers.map((one) => one.accepted));
  fill("callers", callers.map((one) => row([
    cell(one.calling_aet), barCell(one.accepted, largest), cell(megabytes(one.received_bytes)),
    cell(rate(one.received_bytes, one.busy_s)), cell(one.associations), alarming(one.refused), alarming(one.rejected),
    cell(time(one.last_at))])), 8, "Nobody has called.");
}

const associationRow = (one) => row([
  cell(time(one.ended_at)), cell(one.calling_aet), cell(one.address + (one.is_tls ? " (TLS)" : "")), cell(one.accepted),
  alarming(one.refused), cell(megabytes(one.received_bytes)), cell(seconds(one).toFixed(1)),
  cell(words(one.outcome) + (one.errors ? `; ${one.errors}` : ""), one.outcome === "released" && !one.errors ? "" : "bad")]);

const auditRow = (one) => {
  const last = make("td"), link = make("a", "", "message");
  link.href = `/api/audit/${one.number}`;
  last.append(link);
  const kind = cell(words(one.kind), one.outcome ? "bad" : "");
  const what = cell(one.sentence);
  if (one.study_instance_uid) what.append(make("div", "uid", one.study_instance_uid));
  return row([cell(one.number), cell(time(one.at), "when"), kind, cell(one.who || "this node"), what, last]);
};

// A list with pages: "Older" goes on after the last row shown, "Newest" begins anew, a choice filters.
function pages(id, path, key, filter, rowOf, columns, empty) {
  const state = { before: null, last: null, rows: [] }, older = byId(`${id}-older`), newest = byId(`${id}-newest`);
  const load = async () => {
    const asked = new URLSearchParams({ limit: PAGE });
    if (state.before !== null) asked.set("before", state.before);
    if (filter.value) asked.set(filter.dataset.name, filter.value);
    const rows = await read(`${path}?${asked}`);
    fill(id, rows.map(rowOf), columns, empty);
    state.last = rows.length === PAGE ? rows.at(-1)[key] : null;
    older.disabled = state.last === null;
    newest.disabled = state.before === null;
  };
  const show = (before) => { state.before = before; return load(); };
  older.onclick = () => show(state.last);
  newest.onclick = () => show(null);
  filter.onchange = () => show(null);
  return { renew: () => (state.before === null ? load() : undefined), show };
}

const choices = (select, values, naming = String) => {
  const known = new Set([...select.options].map((option) => option.value));
  values.filter((value) => !known.has(value)).forEach((value) => select.append(new Option(naming(value), value)));
};
byId("associations-of").dataset.name = "calling_aet";
byId("audit-kind").dataset.name = "kind";
const ledger = pages("associations", "/api/associations", "id", byId("associations-of"), associationRow, 8, "Nobody has sent anything yet.");
const audit = pages("audit", "/api/audit", "number", byId("audit-kind"), auditRow, 6, "Nothing of this kind has happened.");

function showState(state) {
  const checked = state.checked_at ? `checked up to row ${state.checked_rows} (${time(state.checked_at)})` : "not checked yet";
  const sent = !state.receiver ? "It is sent to nobody."
    : `Sent to ${state.receiver} up to row ${state.sent_rows}${state.sent_at ? ` (${time(state.sent_at)})` : ""}.`;
  byId("audit-state").textContent = `${state.rows} rows, ${checked}. ${sent} Last hash ${state.row_hash || "none"}.`;
  byId("audit-problems").replaceChildren(...state.problems.map((sentence) => make("li", "bad", sentence)));
  choices(byId("audit-kind"), Object.keys(state.kinds), words);
}

audit.show(null);
watch(["/api/network/callers", "/api/associations?limit=1", "/api/commitments", "/api/audit/state"], (callers, newest, commitments, state) => {
  showCallers(callers);
  choices(byId("associations-of"), callers.map((one) => one.calling_aet));
  ledger.renew();
  fill("commitments", commitments.slice(0, PAGE).map((one) => row([
    cell(time(one.received_at)), cell(one.calling_aet), cell(one.state.toLowerCase(), one.state === "FAILED" ? "bad" : ""), cell(one.attempts), cell(one.sentence)])),
    5, "Nobody has asked for it.");
  showState(state);
});
