"use strict";
const STATES = ["submitted", "pending", "processing", "open", "done", "failed", "discarded"];
const STEPS = { deidentify: "de-identify", analyse: "analyse", package: "package", deliver: "deliver" };
const PRIORITIES = { urgent: "urgent", normal: "normal", offpeak: "off-peak" };
const GOING = ["submitted", "pending", "processing"], ENDED = ["done", "failed", "discarded"];
const PAGE = 25;
const HAPPENED = { repeated: "to be repeated", lost: "process lost", rewound: "went back", held: "held", failed: "failed",
  paused: "paused", resumed: "resumed", released: "released", cancelled: "cancelled", discarded: "discarded",
  restarted: "restarted", prioritised: "priority changed" };
let chosen = "", offset = 0;

const button = (text, className, action) => {
  const one = make("button", className, text);
  one.type = "button"; one.onclick = action;
  return one;
};
const duration = (seconds) => seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;

async function ask(method, path, body) {
  document.getElementById("job-problem").textContent = await send(method, path, body);
}

// The steps of the newest attempt with their seconds, in order; a repeated one counts its tries.
function timeline(job) {
  const list = make("ol", "timeline");
  Object.entries(STEPS).forEach(([step, name]) => {
    const events = job.events.filter((one) => one.step === step);
    const began = events.filter((one) => one.kind === "began"), ended = events.find((one) => one.kind === "ended");
    const last = events.filter((one) => one.seconds !== null).at(-1);
    const runs = job.state === "processing" && job.next_step === step;
    const item = make("li", runs ? "now" : ended ? "past" : last && job.next_step === step ? job.state : "");
    item.append(make("span", "step", name));
    if (runs) item.append(make("span", "seconds", "runs"));
    else if (last) item.append(make("span", "seconds", duration(last.seconds)));
    if (began.length > 1) item.append(make("span", "seconds", `${began.length} times`));
    list.append(item);
  });
  return list;
}

function happenings(job) {
  const told = job.events.filter((one) => HAPPENED[one.kind] && !(one.sentence && job.sentence.startsWith(one.sentence) && one.kind !== "repeated"));
  if (!told.length) return null;
  const list = make("ul", "happenings");
  told.forEach((one) => list.append(make("li", "",
    `${new Date(one.at).toLocaleTimeString()} ${STEPS[one.step]}: ${HAPPENED[one.kind]}. ${one.sentence}`)));
  return list;
}

function priorityOf(job) {
  if (ENDED.includes(job.state)) return job.priority === "normal" ? null : make("span", `badge ${job.priority}`, PRIORITIES[job.priority]);
  const select = make("select", `badge ${job.priority}`);
  select.setAttribute("aria-label", `Priority of job ${job.id}`);
  Object.entries(PRIORITIES).forEach(([key, name]) => select.append(new Option(name, key, false, key === job.priority)));
  select.onchange = () => ask("PUT", `/api/jobs/${job.id}/priority`, { priority: select.value });
  return select;
}

function actions(job) {
  const box = make("div", "actions"), path = `/api/jobs/${job.id}`;
  const act = (text, name, className) => box.append(button(text, className, () => ask("POST", `${path}/${name}`)));
  if (GOING.includes(job.state)) {
    act(job.is_paused ? "Resume" : "Pause", job.is_paused ? "resume" : "pause");
    act("Cancel", "cancel", "danger");
  }
  if (job.state === "open") {
    act("Release", "release");
    act("Discard", "discard", "danger");
  }
  if (ENDED.includes(job.state)) {
    const from = make("select"), label = make("label", "from", "from ");
    from.setAttribute("aria-label", `First step of the new attempt of job ${job.id}`);
    const first = job.state === "discarded" ? job.next_step : "deidentify";
    Object.entries(STEPS).forEach(([key, name]) => from.append(new Option(name, key, false, key === first)));
    label.append(from);
    box.append(button(job.state === "discarded" ? "Undo: run it" : "Run again", "",
      () => ask("POST", `${path}/restart?step=${from.value}`)), label);
  }
  return box;
}

function pictures(job) {
  const box = make("div", "pictures");
  job.pictures.forEach((name) => {
    const link = make("a"), image = make("img");
    link.href = image.src = `/api/jobs/${job.id}/pictures/${name}`;
    image.alt = name.replaceAll("_", " "); image.loading = "lazy";
    link.append(image); box.append(link);
  });
  return box;
}

function showJob(job) {
  const box = make("article", `job ${job.state}`), head = make("div", "head");
  const state = job.is_paused ? "paused" : job.state;
  head.append(...[make("span", `state ${state}`, state), priorityOf(job), make("span", "id", job.id),
    make("span", "", job.pseudonym || ""), make("span", "soft", time(job.created_at)),
    job.attempts > 1 ? make("span", "soft", `attempt ${job.attempts}`) : null, actions(job)].filter(Boolean));
  box.append(head);
  if (job.headline) box.append(make("p", "headline", job.headline));
  if (job.sentence) box.append(make("p", job.state === "failed" ? "failed" : "", job.sentence));
  if (GOING.includes(job.state)) {
    const bar = make("progress"); bar.max = 1; bar.value = job.progress;
    bar.setAttribute("aria-label", "Progress");
    const what = job.state === "processing" ? `${job.stage}, ${Math.round(100 * job.progress)} %.` : "";
    box.append(make("p", "", [what, job.waiting].filter(Boolean).join(" ")), bar);
  }
  if (job.events.length) box.append(timeline(job));
  if (job.pictures.length) box.append(pictures(job));
  job.deliveries.forEach((one) => box.append(make("p", "deliveries",
    `to ${one.peer}: ${one.state}, attempt ${one.attempts}${one.sentence ? ` - ${one.sentence}` : ""}`)));
  const told = happenings(job);
  if (told) box.append(told);
  return box;
}

function showFilter(counts) {
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const tab = (state, name, count) => {
    const one = button(`${name} ${count}`, "", () => { chosen = state; offset = 0; look(); });
    one.setAttribute("aria-pressed", String(chosen === state));
    return one;
  };
  document.getElementById("filter").replaceChildren(tab("", "all", all),
    ...STATES.filter((state) => counts[state] || state === chosen).map((state) => tab(state, state, counts[state] || 0)));
  return chosen ? counts[chosen] || 0 : all;
}

function showPager(total, count) {
  const pager = document.getElementById("pager");
  pager.hidden = total <= PAGE;
  const turn = (text, to, isPossible) => {
    const one = button(text, "", () => { offset = to; look(); scrollTo(0, 0); });
    one.disabled = !isPossible;
    return one;
  };
  pager.replaceChildren(turn("Newer", Math.max(0, offset - PAGE), offset > 0),
    make("span", "soft", total ? `${offset + 1} to ${offset + count} of ${total}` : "none"),
    turn("Older", offset + PAGE, offset + count < total));
}

function showNode(board) {
  const banner = document.getElementById("paused");
  banner.hidden = !board.paused_since;
  if (board.paused_since) banner.querySelector("span").textContent =
    `The node is paused since ${time(board.paused_since)}: no step begins. Intake and deliveries go on.`;
  document.getElementById("pause-node").disabled = Boolean(board.paused_since);
  const sum = (name) => board.workers.reduce((total, one) => total + one[name], 0);
  const gpu = sum("gpu_slots") ? ` and ${sum("gpu_slots")} on a GPU` : "";
  document.getElementById("workers").textContent = board.workers.length
    ? `${board.workers.length} ${board.workers.length > 1 ? "processes run" : "process runs"} up to ${sum("cpu_slots")} step${sum("cpu_slots") === 1 ? "" : "s"} at a time${gpu}.`
      + (board.offpeak_hours ? ` Off-peak hours: ${board.offpeak_hours}.` : "")
    : "No process runs jobs.";
}

function look() {
  const query = new URLSearchParams({ limit: PAGE, offset });
  if (chosen) query.set("state", chosen);
  watched.paths = [`/api/board?${query}`];
  return refresh(true);
}

document.querySelector("#paused button").onclick = () => ask("PUT", "/api/node/pause", { is_paused: false });
document.getElementById("pause-node").onclick = () => ask("PUT", "/api/node/pause", { is_paused: true });
document.getElementById("cancel-queue").onclick = () => {
  if (confirm("Cancel every job that waits or runs? Each can be run again one by one.")) ask("POST", "/api/node/cancel");
};
watch([`/api/board?limit=${PAGE}&offset=0`], (board) => {
  const total = showFilter(board.jobs_by_state);
  showNode(board);
  showPager(total, board.jobs.length);
  const isOpen = document.activeElement?.tagName === "SELECT" && document.getElementById("jobs").contains(document.activeElement);
  if (isOpen) return;  // a list that a person has open must not close under the hand
  const empty = make("p", "empty", chosen ? `No job is ${chosen}.` : "No jobs yet. Send a CT study to the node.");
  document.getElementById("jobs").replaceChildren(...(board.jobs.length ? board.jobs.map(showJob) : [empty]));
});
