"use strict";
const STATES = { arriving: "arriving", waiting_series: "waiting for series", waiting_pacs: "waiting for the PACS's count", incomplete: "incomplete",
  routed: "routed", no_rule: "no rule", discarded: "discarded", own: "own results" };
const ANSWERS = { agrees: "agreed", differs: "was asked", silent: "gave no answer", unknown: "did not hold the study" };
const ORDERS = { proceed: "to proceed", discard: "to be discarded", wait: "to wait" };
const decision = document.getElementById("decision"), trialBox = document.getElementById("trial");
let rules = [];

function stateOf(study) {
  const td = make("td"), last = study.versions.at(-1);
  const name = study.state === "routed" && last && last.rule_name ? `routed by ${last.rule_name}` : STATES[study.state] || study.state;
  td.append(make("span", `state ${study.state}`, name));
  if (study.state === "arriving" && study.is_open) td.append(make("p", "note", "An association that brings it is open."));
  if (study.sentence && study.state !== "routed") td.append(make("p", "note", study.sentence));
  if (study.state === "routed" && last) {
    if (last.forced_by) td.append(make("p", "note", `Forced by ${last.forced_by}.`));
    if (last.incomplete) td.append(make("p", "note warn", `Incomplete: ${last.incomplete}`));
    if (last.pipelines !== "hip,spine") td.append(make("p", "note", `Only the ${last.pipelines} is analysed.`));
    if (last.segmenter) td.append(make("p", "note", `Bones are found by ${last.segmenter}.`));
    if (last.priority !== "normal") td.append(make("p", "note", `Priority ${last.priority}.`));
    if (last.destinations) td.append(make("p", "note", `Results go to ${last.destinations.split("\n").join(", ")}.`));
  }
  if (study.state.startsWith("waiting") || study.state === "incomplete") study.answers.forEach((one) =>
    td.append(make("p", "note", `${one.peer} ${ANSWERS[one.word]} at ${time(one.asked_at)}.`)));
  if (study.order && study.state !== "discarded") td.append(make("p", "note", `Told ${ORDERS[study.order.action]} by ${study.order.actor}, ${time(study.order.ordered_at)}`
    + `${study.order.rule_name ? `, by rule ${study.order.rule_name}` : ""}.`));
  return td;
}

function jobsOf(study) {
  const td = make("td");
  study.versions.slice().reverse().forEach((one) => {
    const p = make("p", "note"), link = make("a", "short", one.job_id.slice(0, 8));
    link.href = "/"; link.title = one.job_id;
    p.append(`v${one.version} `, link);
    td.append(p);
  });
  return td;
}

function buttonsOf(study) {
  const td = make("td", "buttons"), why = make("button", "quiet", "Which rule?");
  why.onclick = async () => {
    document.getElementById("trial-study").textContent = study.study_instance_uid;
    document.getElementById("trial-rules").replaceChildren(...await trialOf(study.study_instance_uid));
    trialBox.showModal();
  };
  const decide = make("button", "", "Decide…");
  decide.onclick = () => openDecision(study);
  if (study.instance_count) td.append(decide, why);
  return td;
}

function openDecision(study) {
  const form = decision.querySelector("form"), select = form.elements.rule_name;
  document.getElementById("decision-study").textContent = study.study_instance_uid;
  document.getElementById("decision-state").textContent = `${STATES[study.state] || study.state}. ${study.sentence}`;
  select.replaceChildren(...(study.can_be_ordered ? [new Option("the first rule that takes it", "")] : []), ...rules.map((rule) => new Option(rule.name, rule.name)));
  form.querySelectorAll("[name=action]").forEach((one) => { one.checked = one.value === "proceed"; one.disabled = !study.can_be_ordered && one.value !== "proceed"; });
  form.elements.actor.value = actorName();
  form.querySelector("output").textContent = study.can_be_ordered ? "" : "Everything of it is routed: Proceed by a rule analyses it once more.";
  form.onsubmit = async (event) => {
    event.preventDefault();
    keepActorName(form.elements.actor.value);
    const problem = await send("POST", `/api/studies/${encodeURIComponent(study.study_instance_uid)}/orders`,
      { action: form.elements.action.value, actor: form.elements.actor.value, rule_name: select.value });
    form.querySelector("output").textContent = problem;
    if (!problem) decision.close();
  };
  decision.showModal();
}
document.getElementById("decision-close").onclick = () => decision.close();
document.getElementById("trial-close").onclick = () => trialBox.close();

watch(["/api/studies", "/api/quarantine", "/api/rules"], (studies, quarantine, inForce) => {
  rules = inForce.rules;
  fill("studies", studies.map((study) => row([
    cell(study.study_instance_uid, "uid"),
    cell(study.own_count ? `${study.instance_count} + ${study.own_count} ours` : study.instance_count),
    stateOf(study), cell(time(study.last_arrival)), jobsOf(study), buttonsOf(study)])), 6, "Nothing has arrived yet.");
  fill("quarantine", quarantine.map((one) => row([
    cell(time(one.received_at)), cell(one.calling_aet), cell(one.cause), cell(one.sentence)])), 4, "Empty.");
});
